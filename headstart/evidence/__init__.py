"""Evidence: what was measured about images and network together, before anything is decided."""

from headstart.evidence.records import Cost, Curve, CurvePoint, DepthProbe, Evidence, SizeProbe

__all__ = ["Cost", "Curve", "CurvePoint", "DepthProbe", "Evidence", "SizeProbe"]
