"""The textbook's table, what was measured, and what follows from both."""

from __future__ import annotations

import math

from headstart.data.records import DatasetFacts
from headstart.evidence import Evidence
from headstart.metrics import told_points
from headstart.planning import places
from headstart.planning.expect import (
    best_probe,
    doubt,
    output_probe,
    place_words,
    told_probe,
    told_twin,
)
from headstart.planning.records import Guide, Rung
from headstart.planning.worth import told_seconds
from headstart.similarity import KNOWN, standing

SMALL, LARGE = 1_000, 10_000  # images; the bounds of the decision guide

PRIORS = {
    ("small", "close"): "feature extraction",
    ("small", "far"): "feature extraction from earlier layers",
    ("large", "close"): "fine-tune the entire network",
    ("large", "far"): "fine-tune with caution, possibly from scratch",
}
"""The textbook's corners: (size, similarity) -> advice."""

_OPEN = {
    "small": "feature extraction; from earlier layers if the images are unlike the source's",
    "large": "fine-tune the entire network; with caution, possibly from scratch, if the images are unlike the source's",
    "between": "both: feature extraction first, then fine-tuning, and compare",
}


def size_of(n: int) -> str:
    """`small`, `between` or `large`.

    >>> size_of(999), size_of(1000), size_of(10_000), size_of(10_001)
    ('small', 'between', 'between', 'large')
    """
    return "small" if n < SMALL else "large" if n > LARGE else "between"


def guide(facts: DatasetFacts, evidence: Evidence | None, rungs: tuple[Rung, ...]) -> Guide:
    """The textbook's row for this data, moved by what was measured where anything was."""
    size = size_of(facts.n_train)
    if evidence is None:
        return Guide(size=size, similarity="unknown", prior=_OPEN[size])
    level = standing(evidence.distance, weights=evidence.weights).level
    return Guide(
        size=size,
        similarity=level,
        prior=PRIORS.get((size, level), _OPEN[size]),
        measured=measured(evidence),
        therefore=_therefore(rungs),
        distance=evidence.distance.overall,
        known={domain.name: _on_scale(domain.distances, evidence.weights) for domain in KNOWN},
    )


def measured(evidence: Evidence) -> tuple[str, ...]:
    """What the measurements say, in sentences without a full stop."""
    out = [f"distance to the pretraining images: {evidence.standing}"]
    if evidence.places:
        out += places.measured(evidence)
    elif evidence.depths:
        out += _told_depths(evidence)
    if evidence.curve is not None:
        twice = evidence.curve.twice
        out.append(
            f"twice as many labels would bring it to about {twice[0]:.1%} ({twice[1]:.1%} to {twice[2]:.1%})"
        )
    return (*out, *(finding.rstrip(".") for finding in evidence.findings))


def _told_depths(evidence: Evidence) -> list[str]:
    output, best = output_probe(evidence), best_probe(evidence)
    out = [
        f"a simple classifier on the last layer is right on {told_probe(output, evidence)}",
    ]
    if best.name == output.name:
        out.append("no other depth sees more than the last layer")
    else:
        gain = told_points(best.accuracy - output.accuracy, doubt(best, output))
        out.append(f"on {place_words(best.name)} it is right on {told_probe(best, evidence)}, {gain} more")
    if best.random is not None:
        twin = f"the same on a network with random weights: {told_twin(best, evidence)}"
        worth = told_points(best.accuracy - best.random, best.gain_error or math.sqrt(2) * best.error)
        out.append(f"{twin}; pretraining is worth {worth} there")
    return out


def _therefore(rungs: tuple[Rung, ...]) -> str:
    out = ""
    for rung in rungs:
        found = rung.expected
        if found is not None:
            doubt = " if that ends below its expectation," if rung.doubtful else ""
            out += f"; then,{doubt} " if out and doubt else "; then " if out else ""
            low, high = found.interval
            out += (
                f"{rung.method} (expected {found.accuracy:.1%}, {low:.1%} to {high:.1%} on the test images)"
            )
        elif rung.seconds is not None:
            out += f"{'; then ' if out else ''}{rung.method} (about {told_seconds(rung.seconds)})"
    return out


def _on_scale(distances: dict[str, float], weights: str) -> float:
    return distances[weights] if weights in distances else sum(distances.values()) / len(distances)
