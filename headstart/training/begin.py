"""What happens once before the first gradient step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from headstart import compute
from headstart.adaptation import Adapted
from headstart.heads.probe import STRENGTHS, walk
from headstart.pixels import batches, in_order, normalise, read_pixels
from headstart.tasks import Network
from headstart.training.records import Pace, TrainingData
from headstart.training.solve import probe_problem, set_head

_PROBE_FOLDS = 5


def start_head(adapted: Adapted, data: TrainingData, pace: Pace) -> None:
    """Put the linear probe's head into the network, found on the training images alone.

    Source: Kumar et al. 2022, fine-tuning can distort pretrained features (LP-FT).
    """
    problem = probe_problem(data, adapted.params.class_weights, pace)
    path = walk(problem, strengths=STRENGTHS, count=_PROBE_FOLDS, seed=data.seed)
    set_head(adapted.model, path.heads[path.chosen])


def take_heads(model: Network, before: Network) -> bool:
    """Whether all but the body was taken over from that network: where it has the same heads.

    Heads with places are large, and trained on the frozen network they need not learn again what tuning it starts from
    (Kumar et al. 2022).
    """
    now, other = model.state_dict(), before.state_dict()
    names = [name for name in now if not name.startswith("body.")]
    if any(name not in other or other[name].shape != now[name].shape for name in names):
        return False
    model.load_state_dict(now | {name: other[name] for name in names})
    return True


def reestimate_norms(model: Network, names: Sequence[str], data: TrainingData) -> None:
    """Replace the running statistics of the named BatchNorm layers by those of the training images, un-augmented."""
    layers = [model.get_submodule(name) for name in names]
    kept = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()  # type: ignore[operator]  # BatchNorm's method
        layer.momentum = None  # type: ignore[assignment]  # a cumulative average over all batches
        layer.train()
    stream = batches(
        data.train,
        lambda _, sample: read_pixels(sample.source, data.preprocess),
        groups=in_order(len(data.train), compute.BATCH),
    )
    with torch.no_grad():
        for batch in stream:
            images = normalise(batch.pixels.to(next(model.parameters()).device), data.preprocess)
            model(images.contiguous(memory_format=torch.channels_last))
    for layer, momentum in zip(layers, kept, strict=True):
        layer.momentum = momentum
    model.eval()
