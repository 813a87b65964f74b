"""What a method is expected to reach and to take, from the measurements: a stated model with honest intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from headstart.data.records import DatasetFacts
from headstart.evidence import DepthProbe, Evidence, SizeProbe
from headstart.methods import Method
from headstart.metrics import told_around, told_points, told_share
from headstart.metrics.intervals import Z95
from headstart.planning.records import Z90, Expected
from headstart.similarity import standing

# The textbook's table as numbers: the share of the probe's errors that tuning the whole network removes, with 100 images
# and what each tenfold adds. A prior: bench/regret.py compares it with what was reached. One standard deviation about it:
SHARES = {"close": (0.0, 0.15), "moderate": (0.05, 0.2), "far": (0.1, 0.2), "unknown": (0.05, 0.2)}
_SHARE_SPREAD = 0.2
_MOST_SHARE = 0.75

_PROBE_SPREAD = (
    0.012  # between the quick probe of the evidence and the fitted one, beside what the images leave open
)
_FOLD = 0.8  # share of the probed images that a cross-validated head has learnt from
_USUAL_RATE = 0.25  # errors fall as n ** -rate where there were too few images for a learning curve

# Standard deviations of the true differences of depths, and of input sizes, from the network's own. A measured one is drawn
# to what is usual, the more the larger its error is: the best of many is else expected to be what it was by luck.
_DEPTH_DIFFERENCE, _SIZE_DIFFERENCE, _SMALL_DIFFERENCE = 0.06, 0.02, 0.03
# Share of a size's loss by the quick probe of one depth that a fitted head on its own depths shows too. On the draws named
# below depth probes at the chosen size were 0.7 points better than at the pretraining's with a half, 0.5 with all of it.
_DEPTHS_AGREE = 0.5
# Accuracy that a size usually loses which does not show every pixel of the images (cross-validated 1.9 +- 1.4 points over
# three sets), or which is below two thirds of the pretraining's: a network does best near the size it learnt at. Over five
# sets of small pictures, 30 draws of 50 and 100 training images judged on other training images (bench/regret_sizes.py),
# depth probes lost 0.4 +- 1.5 points at such a size and 3.3 from set to set, and -0.6 +- 0.9 and 2.1 at one between.
_PIXELS_LOST, _SMALL_LOST = 0.02, 0.01
_SMALL = 2 / 3
_EPOCHS = 4.0  # passes after which tuning has reached 1 - 1/e of what it will reach
_SCRATCH_EPOCHS = 30.0  # the same from scratch: about 90 passes are usual
_SCRATCH_FROM, _SCRATCH_EQUAL = (
    1_000,
    100_000,
)  # images from which training from scratch gains, and catches up (He 2019)
_HEAD = 0.002  # seconds an image to find a closed-form head
# To search for depths, which looks at so many images at most: seconds in any case and an image. Measured on one core over
# nine sets of 50 to 1000 images (bench/regret.py): depth probes less linear probes at the same size.
_SEARCHES, _SEARCH, _SEARCHED = 0.4, 0.005, 1000
_START = 0.15  # seconds to start a rung
_PATIENT = 0.8  # share of the planned passes that are made: patience ends the others early


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
        """Accuracy to lose at this input size against that of the pretraining (negative: to gain); measured, and usual."""
        found = next((probe for probe in self.evidence.sizes if probe.size == self.size), None)
        if found is None or self.size == self.native:
            return 0.0
        usual, spread = self.usual_loss
        measured = drawn(found.loss, self._loss_error(found), usual, spread=spread)
        return usual + _DEPTHS_AGREE * (measured - usual)

    @property
    def size_doubt(self) -> float:
        """Standard deviation of `size_loss`: of what was measured, and of how far depths agree; 0 where none is expected."""
        found = next((probe for probe in self.evidence.sizes if probe.size == self.size), None)
        if found is None or self.size == self.native:
            return 0.0
        spread = self.usual_loss[1]
        left = drawn_doubt(self._loss_error(found), spread=spread)
        return math.hypot(_DEPTHS_AGREE * left, (1 - _DEPTHS_AGREE) * spread)

    def _loss_error(self, found: SizeProbe) -> float:
        # That no image changed sides is no proof that none would: at least one more or less.
        return max(found.loss_error, 1 / max(1, found.images or self.evidence.images))

    @property
    def usual_loss(self) -> tuple[float, float]:
        """Accuracy that such a size usually loses, and the standard deviation of that from set to set."""
        if not self.shows_all:
            return _PIXELS_LOST, _SIZE_DIFFERENCE
        small = self.size < _SMALL * self.native
        return (_SMALL_LOST, _SMALL_DIFFERENCE) if small else (0.0, _SIZE_DIFFERENCE)

    @property
    def shows_all(self) -> bool:
        """Whether this input size shows every pixel that the typical image has."""
        sizes = self.facts.size_quantiles
        return self.size >= (sizes[len(sizes) // 2] if sizes else 0.0)

    def errors_left(self, images: int) -> float:
        """Share of a cross-validated probe's errors that is left when a head learns from that many images, in [0, 1]."""
        before, curve = _FOLD * self.evidence.images, self.evidence.curve
        if images <= before:
            return 1.0
        if curve is None:
            return float((before / images) ** _USUAL_RATE)
        then, now = (1 - curve.limit + curve.scale * n**-curve.rate for n in (images, before))
        return float(min(max(then / max(now, 1e-6), 0.0), 1.0))

    @property
    def n_head(self) -> int:
        """Images that a closed-form head learns from at its end: those for validation too, if they were taken out here."""
        val = self.facts.splits.get("val")
        return self.facts.n_train + (val.n if val is not None and val.made else 0)


def output_probe(evidence: Evidence) -> DepthProbe:
    """The probe on the network's own output: what the linear probe reads."""
    return next((probe for probe in evidence.depths if probe.name == "output"), evidence.depths[-1])


def best_probe(evidence: Evidence) -> DepthProbe:
    """The most accurate probe of all depths; of equals the first."""
    return max(evidence.depths, key=lambda probe: probe.accuracy)


def doubt(first: DepthProbe, second: DepthProbe) -> float:
    """Standard error of the difference of two probes' accuracies, about: on the same images the errors go together."""
    return math.hypot(first.error, second.error) / math.sqrt(2)


def drawn(measured: float, error: float, usual: float, *, spread: float) -> float:
    """A measured difference, drawn to what is usual: its posterior mean if true ones are normal about that.

    >>> drawn(0.1, 0.0, 0.0, spread=0.06), round(drawn(0.1, 0.06, 0.0, spread=0.06), 3)
    (0.1, 0.05)
    """
    trust = spread**2 / (spread**2 + error**2)
    return usual + trust * (measured - usual)


def drawn_doubt(error: float, *, spread: float) -> float:
    """Standard deviation of what `drawn` returns: of the posterior.

    >>> round(drawn_doubt(0.06, spread=0.06), 4)
    0.0424
    """
    return spread * error / math.hypot(spread, error) if error else 0.0


def expect(method: Method, params: dict[str, Any], setting: Setting) -> Expected:
    """What this method with these parameters is expected to reach and to take."""
    value, spread, because = _MODELS[method.expects](method, params, setting)
    value = min(max(value, 0.0), 1.0)
    exam = value * (1 - value) / setting.n_exam
    half = Z90 * math.sqrt(spread**2 + exam + 0.25 / setting.n_exam**2)
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
    probe = output_probe(setting.evidence)
    return _from_probe(probe, probe.accuracy, setting, images=setting.n_head)


def _from_depths(_method: Method, params: dict[str, Any], setting: Setting) -> Prediction:
    bound = next((each for each in setting.evidence.depths if each.name == params.get("depths")), None)
    if bound is not None:  # nothing is searched, so no luck of the best is taken off
        return _from_probe(bound, bound.accuracy, setting, images=setting.n_head)
    return _at_depths(setting, images=setting.n_head)


def _at_depths(setting: Setting, *, images: int) -> Prediction:
    probe, output = best_probe(setting.evidence), output_probe(setting.evidence)
    error = doubt(probe, output)
    gain = drawn(probe.accuracy - output.accuracy, error, 0.0, spread=_DEPTH_DIFFERENCE)
    value, spread, because = _from_probe(probe, output.accuracy + gain, setting, images=images)
    trusted = told_points(gain, drawn_doubt(error, spread=_DEPTH_DIFFERENCE))
    told_best = (
        f"the best of {len(setting.evidence.depths)} depths that were tried, by {trusted} to be trusted"
    )
    return value, math.hypot(spread, probe.error), (*because, told_best)


def _from_probe(probe: DepthProbe, accuracy: float, setting: Setting, *, images: int) -> Prediction:
    """What a head on these features is expected to reach that learns from so many images.

    Args:
        probe: that was measured.
        accuracy: of it to go by.
        setting: what predictions are made for.
        images: to learn from.
    """
    known = f"{setting.evidence.images} training images it had not seen"
    because = [
        f"a probe on {place_words(probe.name)} is right on {told_probe(probe, setting.evidence)} of {known}"
    ]
    loss = setting.size_loss
    if loss:
        changed = told_points(abs(loss), setting.size_doubt)
        because.append(
            f"at {setting.size} pixels instead of {setting.native} {changed} {'fewer' if loss > 0 else 'more'} are expected"
        )
    value = min(accuracy - loss, 1.0)
    grown = (1 - value) * (1 - setting.errors_left(images))
    if grown > 0:
        added = told_points(grown, grown / 2)
        because.append(f"with all {images} images to learn from the learning curve adds {added}")
    return value + grown, math.hypot(probe.error, _PROBE_SPREAD, grown / 2), tuple(because)


def _from_tuning(method: Method, params: dict[str, Any], setting: Setting) -> Prediction:
    probe, n = output_probe(setting.evidence), setting.facts.n_train
    base, spread, because = _from_probe(probe, probe.accuracy, setting, images=n)
    best, _, best_because = _at_depths(setting, images=n)
    base = min(base, 1.0)
    share = tuning_share(setting) * method.reach
    epochs = params.get("epochs")
    done = 1 - math.exp(-epochs / _EPOCHS) if epochs else 1.0
    value = 1 - (1 - base) * (1 - share * done)
    removed, reach = share * done, Z95 * _SHARE_SPREAD
    told_removed = (
        f"tuning is expected to remove {removed:.0%} ({removed - reach:.0%} to {min(1.0, removed + reach):.0%}) of its "
        f"errors: {setting.facts.n_train} training images, distance {_distance(setting)}"
        + (f", {epochs} passes" if epochs else "")
    )
    because = (*because, told_removed)
    # Tuned late layers can become what a better depth is already: not with 100 images, and with 1,000 wholly.
    learnt = done * min(max(math.log10(max(n, 1) / 100), 0.0), 1.0)
    if base + learnt * (best - base) > value and method.reach > 0.5:
        value, because = base + learnt * (best - base), (*because, *best_because)
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
    twins = [probe for probe in setting.evidence.depths if probe.random is not None]
    twin = told_twin(max(twins, key=lambda probe: probe.random or 0.0), setting.evidence) if twins else ""
    known = (
        f"features of a network with random weights reach {twin}" if twin else f"guessing reaches {floor:.1%}"
    )
    because = (
        f"{known}, those of the pretrained one {told_probe(best, setting.evidence)}",
        f"with {n} training images a network from scratch is expected to go {way:.0%} of the way between",
    )
    return floor + way * (best.accuracy - floor), 0.1, because


_MODELS = {
    "output": _from_output,
    "depths": _from_depths,
    "tuning": _from_tuning,
    "scratch": _from_scratch,
}


def seconds(
    method: Method, params: dict[str, Any], setting: Setting, *, longest: bool = False
) -> float | None:
    """How long the method is expected to take on this machine; None where nothing was timed.

    Features that the evidence has computed already cost nothing more.

    Args:
        method: a row of `METHODS`.
        params: its parameters.
        setting: what the prediction is made for.
        longest: whether all passes are made, instead of as many as patience usually leaves.
    """
    cost = setting.evidence.cost
    if cost is None:
        return None
    n = setting.facts.n_train
    n_val = setting.facts.splits["val"].n if "val" in setting.facts.splits else 0
    forward, views = cost.forward * setting.slowness, int(params.get("views", 1))
    once = _START + (n + n_val - _known(setting)) * forward + n * _HEAD  # tuning starts from the probe too
    if method.solver == "features":
        search = _SEARCHES + _SEARCH * min(n, _SEARCHED) if method.expects == "depths" else 0.0
        return once + search + (views - 1) * n * (forward + _HEAD)
    epochs = int(params.get("epochs", 1))
    passes = epochs if longest or epochs <= int(params.get("patience", epochs)) else _PATIENT * epochs
    # The frozen part runs once for each view, and never again for validation; a forward pass is a third of a step.
    if method.step == "partial_step":
        tuned = cost.stages[-int(params.get("unfreeze", 2)) :]
        step = (sum(tuned) if tuned else cost.partial_step) * setting.slowness
        prefix = (min(views, epochs) * n + n_val) * forward
        return once + prefix + passes * (n + n_val / 3) * step
    return once + passes * (n * (cost.step * setting.slowness + cost.read) + n_val * forward)


def _known(setting: Setting) -> int:
    """Training images of which the measuring has left the features of all depths, at this input size."""
    n, evidence = setting.facts.n_train, setting.evidence
    if setting.size == setting.native:
        return min(n, evidence.images)
    found = next((probe for probe in evidence.sizes if probe.size == setting.size), None)
    return min(n, found.images) if found is not None and found.reusable else 0


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


def told_probe(probe: DepthProbe, evidence: Evidence) -> str:
    """The accuracy of a probe with its 95 % interval: `93.6% (91.8% to 95.0%)`."""
    return told_around(probe.accuracy, probe.error, evidence.images)


def told_size(probe: SizeProbe, evidence: Evidence) -> str:
    """The accuracy at an input size with its 95 % interval."""
    return told_around(probe.accuracy, probe.error, probe.images or evidence.images)


def told_twin(probe: DepthProbe, evidence: Evidence) -> str:
    """The accuracy of the same probe on the untrained twin, with its 95 % interval; empty where it was not measured."""
    if probe.random is None:
        return ""
    return told_share(min(max(probe.random, 0.0), 1.0), evidence.twin_images or evidence.images)


def told_expected(found: Expected) -> str:
    """An expected accuracy with the 95 % interval of what the test images will show."""
    low, high = found.interval
    return f"{found.accuracy:.1%} ({low:.1%} to {high:.1%})"


def _distance(setting: Setting) -> str:
    overall = setting.evidence.distance.overall
    return setting.level if overall is None else f"{overall:.2g} ({setting.level})"
