"""What a method is expected to reach and to take, from the measurements: a stated model with honest intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from headstart.data.records import DatasetFacts
from headstart.evidence import DepthProbe, Evidence
from headstart.methods import Method
from headstart.planning.records import Expected
from headstart.similarity import standing

_Z90 = 1.6448536269514722  # the normal distribution's 95 % quantile: intervals of 90 %

# The textbook's table as numbers: the share of the probe's errors that tuning the whole network removes, with 100 images
# and what each tenfold adds. A prior: bench/regret.py compares it with what was reached. One standard deviation about it:
SHARES = {"close": (0.0, 0.15), "moderate": (0.1, 0.2), "far": (0.2, 0.2), "unknown": (0.1, 0.2)}
_SHARE_SPREAD = 0.2
_MOST_SHARE = 0.75

_PROBE_SPREAD = (
    0.012  # between the quick probe of the evidence and the fitted one, beside what the images leave open
)
_EPOCHS = 4.0  # passes after which tuning has reached 1 - 1/e of what it will reach
_SCRATCH_EPOCHS = 30.0  # the same from scratch: about 90 passes are usual
_SCRATCH_FROM, _SCRATCH_EQUAL = (
    1_000,
    100_000,
)  # images from which training from scratch gains, and catches up (He 2019)
_HEAD = 0.002  # seconds an image to find a closed-form head
_START = 2.0  # seconds to start a rung


@dataclass(frozen=True)
class Setting:
    """What predictions are made for.

    Attributes:
        size: of the input, in pixels; None: that of the pretraining.
        native: the size of the pretraining.
    """

    facts: DatasetFacts
    evidence: Evidence
    size: int
    native: int

    @property
    def level(self) -> str:
        """`close`, `moderate`, `far` or `unknown`."""
        return standing(self.evidence.distance, weights=self.evidence.weights).level

    @property
    def n_exam(self) -> int:
        """Test images, on which the prediction will be checked; their number is known, they are not."""
        return max(1, self.facts.splits["test"].n if "test" in self.facts.splits else self.facts.n_train)

    @property
    def slowness(self) -> float:
        """Seconds an image at this input size over those at the size of the pretraining."""
        seconds = {probe.size: probe.seconds_per_image for probe in self.evidence.sizes}
        if self.size not in seconds or not seconds.get(self.native):
            return 1.0
        return seconds[self.size] / seconds[self.native]

    @property
    def size_loss(self) -> float:
        """Accuracy that the probe loses at this input size against the size of the pretraining (negative: it gains)."""
        return next((probe.loss for probe in self.evidence.sizes if probe.size == self.size), 0.0)


def output_probe(evidence: Evidence) -> DepthProbe:
    """The probe on the network's own output: what the linear probe reads."""
    return next((probe for probe in evidence.depths if probe.name == "output"), evidence.depths[-1])


def best_probe(evidence: Evidence) -> DepthProbe:
    """The most accurate probe of all depths; of equals the first."""
    return max(evidence.depths, key=lambda probe: probe.accuracy)


def expect(method: Method, params: dict[str, Any], setting: Setting) -> Expected:
    """What this method with these parameters is expected to reach and to take."""
    value, spread, because = _MODELS[method.expects](method, params, setting)
    value = min(max(value, 0.0), 1.0)
    exam = value * (1 - value) / setting.n_exam
    half = _Z90 * math.sqrt(spread**2 + exam + 0.25 / setting.n_exam**2)
    return Expected(
        accuracy=value,
        low=max(0.0, value - half),
        high=min(1.0, value + half),
        seconds=seconds(method, params, setting),
        because=because,
    )


Prediction = tuple[float, float, tuple[str, ...]]
"""Expected accuracy, its standard deviation, and the measurements it rests on."""


def _from_output(_method: Method, _params: dict[str, Any], setting: Setting) -> Prediction:
    return _from_probe(output_probe(setting.evidence), setting)


def _from_depths(_method: Method, _params: dict[str, Any], setting: Setting) -> Prediction:
    value, spread, because = _from_probe(best_probe(setting.evidence), setting)
    tried = f"the best of {len(setting.evidence.depths)} depths that were tried"
    return value, math.hypot(spread, best_probe(setting.evidence).error), (*because, tried)


def _from_probe(probe: DepthProbe, setting: Setting) -> Prediction:
    known = f"{setting.evidence.images} training images it had not seen"
    because = [
        f"a probe on {place_words(probe.name)} is right on {told(probe.accuracy, probe.error)} of {known}"
    ]
    value = probe.accuracy - setting.size_loss
    if setting.size_loss:
        because.append(
            f"at {setting.size} pixels instead of {setting.native} it loses {_points(setting.size_loss)}"
        )
    grown = _growth(setting)
    if grown > 0:
        because.append(
            f"with all {setting.facts.n_train} training images the learning curve adds {_points(grown)}"
        )
    return value + grown, math.hypot(probe.error, _PROBE_SPREAD, grown / 2), tuple(because)


def _growth(setting: Setting) -> float:
    """What the learning curve adds from the images that were probed to all training images."""
    curve, seen, n = setting.evidence.curve, setting.evidence.images, setting.facts.n_train
    if curve is None or n <= seen:
        return 0.0
    return max(0.0, float(curve.scale * (seen**-curve.rate - n**-curve.rate)))


def _from_tuning(method: Method, params: dict[str, Any], setting: Setting) -> Prediction:
    base, spread, because = _from_output(method, params, setting)
    best, _, best_because = _from_depths(method, params, setting)
    base = min(base, 1.0)
    share = tuning_share(setting) * method.reach
    epochs = params.get("epochs")
    done = 1 - math.exp(-epochs / _EPOCHS) if epochs else 1.0
    value = 1 - (1 - base) * (1 - share * done)
    told_share = (
        f"tuning is expected to remove {share * done:.0%} of its errors: {setting.facts.n_train} training images, "
        f"distance {_distance(setting)}" + (f", {epochs} passes" if epochs else "")
    )
    because = (*because, told_share)
    if (
        best * done > value and method.reach > 0.5
    ):  # tuned late layers can become what the better depth already is
        value, because = best * done, (*because, *best_because)
    return value, math.hypot(spread, _SHARE_SPREAD * (1 - base)), because


def tuning_share(setting: Setting) -> float:
    """The share of the probe's errors that tuning the whole network is expected to remove, in [0, 0.75]."""
    start, tenfold = SHARES[setting.level]
    share = start + tenfold * math.log10(max(setting.facts.n_train, 1) / 100)
    curve = setting.evidence.curve
    if curve is not None and curve.points and setting.facts.n_train >= 1000:
        # A flat curve says that more labels do not help these features: what is left only other features can win.
        flat = curve.twice[0] - curve.points[-1].accuracy < curve.points[-1].error
        share *= 1.2 if flat else 1.0
    return min(max(share, 0.0), _MOST_SHARE)


def _from_scratch(_method: Method, params: dict[str, Any], setting: Setting) -> Prediction:
    probes = [probe.random for probe in setting.evidence.depths if probe.random is not None]
    best = best_probe(setting.evidence)
    floor = max(probes) if probes else 1 / max(len(setting.facts.classes), 1)
    n = setting.facts.n_train
    span = math.log10(_SCRATCH_EQUAL / _SCRATCH_FROM)
    way = min(max(math.log10(max(n, 1) / _SCRATCH_FROM) / span, 0.0), 1.0)
    epochs = params.get("epochs")
    way *= 1 - math.exp(-epochs / _SCRATCH_EPOCHS) if epochs else 1.0
    because = (
        f"features of a network with random weights reach {floor:.1%}, those of the pretrained one {best.accuracy:.1%}",
        f"with {n} training images a network from scratch is expected to go {way:.0%} of the way between",
    )
    return floor + way * (best.accuracy - floor), 0.1, because


_MODELS = {
    "output": _from_output,
    "depths": _from_depths,
    "tuning": _from_tuning,
    "scratch": _from_scratch,
}


def seconds(method: Method, params: dict[str, Any], setting: Setting) -> float | None:
    """How long the method is expected to take on this machine; None where nothing was timed.

    Features that the evidence has computed already cost nothing more.
    """
    cost = setting.evidence.cost
    if cost is None:
        return None
    n = setting.facts.n_train
    n_val = setting.facts.splits["val"].n if "val" in setting.facts.splits else 0
    slow, views = setting.slowness, int(params.get("views", 1))
    known = min(n, setting.evidence.images) if setting.size == setting.native else 0
    once = (n + n_val - known) * cost.forward * slow + n * _HEAD  # the probe, which tuning starts from too
    if method.solver == "features":
        return _START + once + (views - 1) * n * cost.forward * slow + (views - 1) * n * _HEAD
    epochs = int(params.get("epochs", 1))
    # The frozen part runs once for each view, and never again for validation; a forward pass is a third of a step.
    if method.step == "partial_step":
        tuned = cost.stages[-int(params.get("unfreeze", 2)) :]
        step = (sum(tuned) if tuned else cost.partial_step) * slow
        prefix = (min(views, epochs) * n + n_val) * cost.forward * slow
        return _START + once + prefix + epochs * (n + n_val / 3) * step
    return _START + once + epochs * (n * (cost.step * slow + cost.read) + n_val * cost.forward * slow)


def place_words(name: str) -> str:
    """A depth in words: `output` is the last layer, `stage3` the third block, several are joined by `+`.

    >>> place_words("output"), place_words("stage3"), place_words("stage2+stage5")
    ('the last layer', 'block 3', 'blocks 2 and 5')
    """
    if name == "all":
        return "all depths together"
    parts = name.split("+")
    if len(parts) > 1 and all(part.startswith("stage") for part in parts):
        numbers = [part.removeprefix("stage") for part in parts]
        return f"blocks {', '.join(numbers[:-1])} and {numbers[-1]}"
    words = [
        "the last layer"
        if part == "output"
        else "the first layers"
        if part == "stem"
        else f"block {part.removeprefix('stage')}"
        for part in parts
    ]
    return " and ".join(words)


def told(value: float, error: float) -> str:
    """A share with its standard error: `93.6 % +- 0.8`."""
    return f"{100 * value:.1f} % +- {100 * error:.1f}"


def _points(value: float) -> str:
    return f"{100 * value:.1f} points"


def _distance(setting: Setting) -> str:
    overall = setting.evidence.distance.overall
    return setting.level if overall is None else f"{overall:.2g} ({setting.level})"
