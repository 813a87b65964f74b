"""Numbers and names as a reader wants to see them. Whatever is absent reads `not recorded`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, TypeGuard

from headstart._core.records import record
from headstart.methods import METHODS

MISSING = "not recorded"
SPACE = "\u00a0"  # a number and its unit stay on one line
DASH = "\u2013"
JOINED_DASH = "\u2060\u2013\u2060"  # at which no line is broken, for headlines
MINUS = "\u2212"


@record
class MetricWords:
    """How a metric is called and read.

    Attributes:
        label: what stands before the number.
        meaning: one sentence for someone who never met it.
        share: it is a share in [0, 1] and shown in percent.
        lower_is_better: the direction.
    """

    label: str
    meaning: str = ""
    share: bool = True
    lower_is_better: bool = field(default=False)

    @property
    def inside(self) -> str:
        """The label inside a sentence.

        >>> [MetricWords(label=label).inside for label in ("Mean IoU", "AP of each image", "F1", "Top-5 accuracy")]
        ['mean IoU', 'AP of each image', 'F1', 'top-5 accuracy']
        """
        word = self.label.partition(" ")[0]
        keeps = word == word.upper() or any(letter.isupper() for letter in word[1:])
        return self.label if keeps else self.label[:1].lower() + self.label[1:]


_WORDS = {
    "accuracy": MetricWords(label="Accuracy", meaning="Share of images whose first answer is right."),
    "balanced_accuracy": MetricWords(
        label="Balanced accuracy",
        meaning="Mean over the classes of the share found: rare classes count as much as common ones.",
    ),
    "macro_f1": MetricWords(
        label="Macro F1", meaning="Precision and recall in one number, averaged over the classes."
    ),
    "micro_f1": MetricWords(
        label="Micro F1", meaning="Precision and recall in one number, over all labels together."
    ),
    "f1_samples": MetricWords(
        label="F1 of each image",
        meaning="How well the set of labels of an image is met, averaged over the images.",
    ),
    "subset_accuracy": MetricWords(
        label="Exact matches",
        meaning="Share of images whose labels are all right, none missed and none added.",
    ),
    "f1": MetricWords(label="F1", meaning="Precision and recall in one number."),
    "top5": MetricWords(
        label="Top-5 accuracy", meaning="Share of images with the right class among the first five answers."
    ),
    "log_loss": MetricWords(
        label="Log-loss",
        meaning="Punishes confident mistakes; 0 is perfect.",
        share=False,
        lower_is_better=True,
    ),
    "calibration_error": MetricWords(
        label="Calibration error",
        meaning="Mean gap between the stated probability and how often it is right, less what chance alone would show.",
        lower_is_better=True,
    ),
    "map": MetricWords(
        label="Mean average precision",
        meaning="How well each label ranks its images first, averaged over the labels.",
    ),
    "brier": MetricWords(
        label="Brier score",
        meaning="Mean squared error of the probabilities.",
        share=False,
        lower_is_better=True,
    ),
    "aurc": MetricWords(
        label="Risk-coverage area",
        meaning="Mean share of wrong answers when only the surest images are answered, over all shares of them.",
        lower_is_better=True,
    ),
    "loss": MetricWords(label="Loss", share=False, lower_is_better=True),
    "map50": MetricWords(
        label="AP at half overlap",
        meaning="Average precision where a box counts from an overlap of 0.5 on, averaged over the classes (mAP50).",
    ),
    "map75": MetricWords(label="AP at overlap 0.75", meaning="The same for boxes that fit closely."),
    "map50_95": MetricWords(
        label="AP over overlaps",
        meaning="Average precision, averaged over overlaps of 0.50 to 0.95 and over the classes (COCO's mAP).",
    ),
    "1 - map": MetricWords(
        label="1 - AP over overlaps", meaning="What chooses among epochs.", lower_is_better=True
    ),
    "1 - miou": MetricWords(label="1 - mean IoU", meaning="What chooses among epochs.", lower_is_better=True),
    "map_small": MetricWords(label="AP, small objects", meaning="Of objects of less than 32 x 32 pixels."),
    "map_medium": MetricWords(label="AP, medium objects", meaning="Of objects up to 96 x 96 pixels."),
    "map_large": MetricWords(label="AP, large objects", meaning="Of objects above 96 x 96 pixels."),
    "ap": MetricWords(label="AP over overlaps"),
    "ap50": MetricWords(label="AP at half overlap"),
    "image_ap": MetricWords(
        label="AP of each image", meaning="Average precision of single images, averaged over them."
    ),
    "miou": MetricWords(
        label="Mean IoU",
        meaning="What truth and answer have in common of what they cover together, averaged over the classes.",
    ),
    "iou": MetricWords(label="IoU"),
    "dice": MetricWords(label="Dice", meaning="Precision and recall of the pixels in one number."),
    "boundary_iou": MetricWords(
        label="Boundary IoU", meaning="The same as mean IoU in a narrow band along the edges alone."
    ),
    "pixel_accuracy": MetricWords(label="Pixel accuracy", meaning="Share of pixels with the right class."),
    "image_miou": MetricWords(
        label="Mean IoU of each image", meaning="Mean IoU of single images, averaged over them."
    ),
}
_ALIASES = {
    "top_5": "top5",
    "top5_accuracy": "top5",
    "top_5_accuracy": "top5",
    "ece": "calibration_error",
    "mean_average_precision": "map",
    "map_macro": "map",
    "f1 of each image": "f1_samples",
    "ap of each image": "image_ap",
    "mean iou of each image": "image_miou",
    "f1_macro": "macro_f1",
    "f1_micro": "micro_f1",
    "brier_score": "brier",
}
_METHODS = {
    "linear-probe": "linear probe",
    "partial": "partial fine-tuning",
    "full": "full fine-tuning",
    "majority": "always the most common answer",
    "soup": "average of the tuned networks",
    "mirror": "answers averaged over a mirror image",
}
_MEANINGS = {
    "linear-probe": "The pretrained network stays exactly as it is; only a new last layer is fitted to your classes.",
    "partial": "The last layers of the pretrained network are adapted to your images; the layers before stay as they are.",
    "full": "Every layer of the pretrained network is adapted to your images, in small steps.",
    "soup": "The weights of networks that were tuned from the same start, averaged; in use it costs what one costs.",
    "mirror": "Every image is looked at twice, once in a mirror, and both answers are averaged, in twice the time.",
}
_KEY = re.compile(r"\b[a-z0-9]+(?:_[a-z0-9]+)+\b")
_STAGES = ("before", "uncalibrated", "raw", "after")


def metric_words(key: str) -> MetricWords:
    """How to call a metric; a name never seen before is shown as it is, with its values as plain numbers.

    >>> metric_words("calibration_error_before").label
    'Calibration error before temperature scaling'
    """
    name = key.lower()
    for stage in _STAGES:
        if name.endswith("_" + stage):
            base = metric_words(name.removesuffix("_" + stage))
            when = "after" if stage == "after" else "before"
            return MetricWords(
                label=f"{base.label} {when} temperature scaling",
                meaning=base.meaning,
                share=base.share,
                lower_is_better=base.lower_is_better,
            )
    return _WORDS.get(_ALIASES.get(name, name)) or MetricWords(label=humane(key), share=False)


def method_words(name: Any) -> str:
    """A method's name in words, or the name itself."""
    return _METHODS.get(str(name), text(name))


def method_meaning(name: Any) -> str:
    """One sentence on what a method does, for someone who never met it; empty for a method that nobody knows."""
    known = METHODS[str(name)].summary if str(name) in METHODS else ""
    return _MEANINGS.get(str(name)) or (sentence(known) if known else "")


def humane(key: str) -> str:
    """A key as a label: `size_quantiles` becomes `Size quantiles`."""
    words = str(key).replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a number that can be drawn or formatted (a truth value is none)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def percent(value: Any, *, digits: int = 1) -> str:
    """A share in [0, 1] in percent.

    >>> percent(146 / 153).replace(SPACE, " "), percent(None)
    ('95.4 %', 'not recorded')
    """
    return f"{100 * value:.{digits}f}{SPACE}%".replace("-", MINUS) if is_number(value) else MISSING


def number(value: Any, *, digits: int = 3) -> str:
    """A plain number: whole ones with thousands marked, others to `digits` decimals or significant digits.

    >>> number(3371658), number(0.31415), number(0.00001)
    ('3,371,658', '0.314', '1e-05')
    """
    if not is_number(value):
        return MISSING
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}".replace("-", MINUS)
    shown = f"{value:.{digits}f}" if abs(value) >= 10.0**-digits else f"{value:.{digits}g}"
    return shown if "e" in shown else shown.replace("-", MINUS)


def rate(value: Any) -> str:
    """A learning rate, a decay or another constant, in as few digits as it needs: `1e-05`, `0.9`."""
    return f"{value:.4g}" if is_number(value) else MISSING


def amount(value: Any, words: MetricWords) -> str:
    """A metric's value: percent for a share, three decimals else."""
    if words.share:
        return percent(value)
    return f"{value:.3f}".replace("-", MINUS) if is_number(value) else MISSING


def interval(low: Any, high: Any, words: MetricWords) -> str:
    """The two ends of an interval.

    >>> interval(0.909, 0.978, metric_words("accuracy")).replace(SPACE, " ").replace(DASH, "-")
    '90.9-97.8 %'
    """
    if not (is_number(low) and is_number(high)):
        return MISSING
    if words.share:
        return f"{100 * low:.1f}{DASH}{100 * high:.1f}{SPACE}%".replace("-", MINUS)
    return f"{amount(low, words)}{DASH}{amount(high, words)}"


def signed(value: Any, *, share: bool) -> str:
    """A difference with its sign; of shares, in percentage points without the word.

    >>> signed(0.0131, share=True)
    '+1.3'
    """
    if not is_number(value):
        return MISSING
    return (f"{100 * value:+.1f}" if share else f"{value:+.3f}").replace("-", MINUS)


def duration(value: Any) -> str:
    """Seconds in the largest unit that keeps two parts.

    >>> [duration(x).replace(SPACE, " ") for x in (0.21, 17.34, 125, 4000)]
    ['0.21 s', '17.3 s', '2 min 5 s', '1 h 7 min']
    """
    if not is_number(value):
        return MISSING
    if value < 59.95:
        return f"{value:.2f}{SPACE}s" if value < 1 else f"{value:.1f}{SPACE}s"
    whole = round(value)
    if whole < 3600:
        rest = f" {whole % 60}{SPACE}s" if whole % 60 else ""
        return f"{whole // 60}{SPACE}min{rest}"
    minutes = round(value / 60)
    return f"{minutes // 60}{SPACE}h {minutes % 60}{SPACE}min"


def probability_value(value: Any) -> str:
    """A p-value without false precision.

    >>> probability_value(0.000012), probability_value(0.2188)
    ('p < 0.001', 'p = 0.22')
    """
    if not is_number(value):
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2f}" if value >= 0.01 else f"p = {value:.3f}"


def text(value: Any) -> str:
    """Any value of a JSON file in one line of words.

    >>> text([0.5, True, None]), text({"lr": 1e-5})
    ('0.5, yes, not recorded', 'lr: 1e-05')
    """
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(text(item) for item in value) or "none"
    return str(value)


def sentence(words: Any) -> str:
    """A remark of another stage as a sentence, or nothing where there is none.

    >>> sentence("the first usable model"), sentence(None)
    ('The first usable model.', '')
    >>> sentence("image_ap 60.0% on 87 validation images")
    'AP of each image 60.0% on 87 validation images.'
    """
    said = _KEY.sub(
        lambda found: _WORDS[found[0]].label if found[0] in _WORDS else found[0], str(words or "")
    ).strip()
    return said[:1].upper() + said[1:] + ("" if said.endswith((".", "!", "?")) else ".") if said else ""


def listed(names: Sequence[str], *, most: int = 5, joint: str = "and") -> str:
    """Names as a sentence holds them.

    >>> listed(["ants", "bees"]), listed(list("abcdef"), most=3)
    ('ants and bees', 'a, b, c and 3 more')
    """
    shown = list(names) if len(names) <= most else [*names[:most], f"{len(names) - most:,} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {joint} {shown[-1]}" if shown else ""


def plural(count: Any, noun: str, many: str = "") -> str:
    """A count with its noun.

    >>> plural(1, "image"), plural(1234, "class", "classes")
    ('1 image', '1,234 classes')
    """
    return f"{number(count)} {noun if count == 1 else many or noun + 's'}"
