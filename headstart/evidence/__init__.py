"""Evidence: what was measured about images and network together, before anything is decided."""

from headstart.evidence.measure import Options, measure
from headstart.evidence.records import (
    Cost,
    Curve,
    CurvePoint,
    DepthProbe,
    Evidence,
    Flips,
    Forecast,
    Labels,
    Recall,
    SizeProbe,
)

__all__ = [
    "Cost",
    "Curve",
    "CurvePoint",
    "DepthProbe",
    "Evidence",
    "Flips",
    "Forecast",
    "Labels",
    "Options",
    "Recall",
    "SizeProbe",
    "measure",
]
