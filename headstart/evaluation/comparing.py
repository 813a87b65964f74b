"""Two methods on the same images."""

from __future__ import annotations

from headstart.evaluation.records import About, Answers
from headstart.metrics import Comparison, draw, mcnemar, mean_interval
from headstart.metrics.claims import verdict
from headstart.metrics.intervals import paired_shares
from headstart.tasks import TASKS

_NAMES = {
    "f1_samples": "F1 of each image",
    "image_ap": "AP of each image",
    "image_miou": "mean IoU of each image",
}
"""What a comparison is called by, where that is not the metric's own name."""


def compare(a: Answers, b: Answers, *, names: tuple[str, str], about: About) -> Comparison:
    """How the two differ, image by image.

    Accuracies of independent images: Agresti and Min's interval, and McNemar's exact test, which must agree before a
    difference is called one. Else (groups, or several labels an image): a paired bootstrap over images or groups.
    """
    task = TASKS[about.task]
    difference = task.correctness(a.logits, a.truth) - task.correctness(b.logits, b.truth)
    units, p = a.units, None
    single = task.places is None and a.truth.ndim == 1
    if single and units is None:
        only_a, only_b = int((difference > 0).sum()), int((difference < 0).sum())
        p = mcnemar(only_a, only_b)
        low, high = paired_shares(only_a, only_b, len(difference))
    else:
        low, high = mean_interval(difference, draw(len(difference), seed=about.seed, groups=units))
    return Comparison(
        a=names[0],
        b=names[1],
        metric=_NAMES.get(task.primary, task.primary),
        difference=float(difference.mean()),
        low=low,
        high=high,
        p=p,
        n=len(difference),
        verdict=verdict(low, high, p=p),
    )
