"""What a distance means: the distances of domains that everybody knows, and the words close, moderate and far."""

from __future__ import annotations

from headstart._core.records import record
from headstart.similarity.distance import Distance

CLOSE = 0.035
"""Below: the network knows such pictures. Between ants and bees (photos) and street scenes from a video camera."""

FAR = 0.08
"""From here on: another domain. Satellite scenes, where the last layer loses ten points to earlier ones, lie above."""


@record
class KnownDomain:
    """A domain with its measured distances.

    Attributes:
        name: as it stands in a sentence.
        how: what was measured.
        distances: bundled weights -> distance of 128 images at the weights' own input size.
    """

    name: str
    how: str
    distances: dict[str, float]


def _row(name: str, how: str, *distances: float) -> KnownDomain:
    names = (f"bundled:efficientnet_lite{number}" for number in range(len(distances)))
    return KnownDomain(name=name, how=how, distances=dict(zip(names, distances, strict=True)))


# Regenerate with bench/calibrate_distance.py: overall distance for lite0, lite1, lite2, 128 images each (street scenes 110).
KNOWN: tuple[KnownDomain, ...] = (
    _row("photos of all kinds", "one ImageNet photo of each of 128 classes", 0.0107, 0.0083, 0.0077),
    _row("ants and bees", "hymenoptera, photos", 0.0217, 0.0233, 0.0218),
    _row("street scenes", "CamVid, frames of a video camera in a car", 0.046, 0.0453, 0.0538),
    _row("satellite scenes", "RSSCN7, seven kinds of land use", 0.112, 0.107, 0.0927),
    _row("enlarged 32-pixel pictures", "CIFAR-10, 32 px", 0.311, 0.388, 0.388),
    _row("blood cells", "BCCD, microscope pictures of stained blood", 0.34, 0.292, 0.273),
    _row("gray clothing pictures", "Fashion-MNIST, 28 px, white on black", 0.406, 0.415, 0.39),
    _row("spectrograms", "synthetic chirps, gray, made by the script", 0.697, 0.667, 0.435),
    _row("handwritten digits", "scikit-learn's digits, 8 px", 0.962, 0.768, 0.884),
    _row("uniform noise", "independent pixels, made by the script", 2.64, 2.24, 1.24),
)


@record
class Standing:
    """Where a distance stands among known domains.

    Attributes:
        level: `close`, `moderate`, `far`, or `unknown` where nothing was measured.
        sure: whether the whole interval has that level.
        below: the known domain next below, empty where there is none.
        above: the known domain next above, empty where there is none.
        text: all of it in a sentence without a full stop, or the reason why there is no distance.
    """

    level: str
    sure: bool
    below: str
    above: str
    text: str


def standing(distance: Distance, *, weights: str) -> Standing:
    """Where the distance stands, in words, on the scale of those weights; for others on the mean scale of the bundled.

    Args:
        distance: as measured.
        weights: name of the weights it was measured with: `bundled:efficientnet_lite0`.
    """
    if distance.overall is None or distance.low is None or distance.high is None:
        return Standing(level="unknown", sure=False, below="", above="", text=distance.reason)
    value = distance.overall
    scale = sorted((_at(domain, weights), domain.name) for domain in KNOWN)
    below = next(((d, name) for d, name in reversed(scale) if d <= value), None)
    above = next(((d, name) for d, name in scale if d > value), None)
    level, ends = _level(value), {_level(distance.low), _level(distance.high)}
    if below and above:
        place = f"between {_named(below)} and {_named(above)}"
    elif above:
        place = f"nearer than {_named(above)}"
    else:
        place = f"beyond {_named(below or scale[-1])}"
    doubt = "" if ends == {level} else f"; with {distance.n} images it may also be {_others(level, ends)}"
    borrowed = "" if weights in KNOWN[0].distances else ", on the scale of the bundled networks"
    return Standing(
        level=level,
        sure=ends == {level},
        below=below[1] if below else "",
        above=above[1] if above else "",
        text=f"{level} ({value:.2g}): {place}{borrowed}{doubt}",
    )


def _level(value: float) -> str:
    return "close" if value < CLOSE else "moderate" if value < FAR else "far"


def _others(level: str, ends: set[str]) -> str:
    return " or ".join(name for name in ("close", "moderate", "far") if name in ends - {level})


def _named(entry: tuple[float, str]) -> str:
    return f"{entry[1]} ({entry[0]:.2g})"


def _at(domain: KnownDomain, weights: str) -> float:
    values = domain.distances
    return values[weights] if weights in values else sum(values.values()) / len(values)
