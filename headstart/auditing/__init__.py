"""Is the data what it says? Leaks, contradictions, groups, confounds, shift, label errors."""

from headstart.auditing.audit import Material, audit
from headstart.auditing.labels import doubts, softmax
from headstart.auditing.records import Audit, Leak, NearPair, Suspect

__all__ = ["Audit", "Leak", "Material", "NearPair", "Suspect", "audit", "doubts", "softmax"]
