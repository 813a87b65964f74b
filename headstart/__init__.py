"""headstart gives a vision model a head start: from a folder of images to a tested, explained, saved model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart._core.table import load as _load

if TYPE_CHECKING:
    from headstart.export import open_bundle as load
    from headstart.learner import TransferLearner
    from headstart.runs.fit import fit, plan, resume

__version__ = "0.1.0"
__all__ = ["TransferLearner", "fit", "load", "plan", "resume"]

_PUBLIC = {
    "TransferLearner": "headstart.learner:TransferLearner",
    "fit": "headstart.runs.fit:fit",
    "load": "headstart.export:open_bundle",
    "plan": "headstart.runs.fit:plan",
    "resume": "headstart.runs.fit:resume",
}


def __getattr__(name: str) -> Any:
    """The public function of that name, imported when it is first used: `import headstart` costs no torch."""
    if name in _PUBLIC:
        return _load(_PUBLIC[name])
    raise AttributeError(f"module 'headstart' has no attribute {name!r}")
