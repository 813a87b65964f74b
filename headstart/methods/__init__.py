"""Transfer methods, one file each, in the order of their cost."""

from headstart._core.table import Table
from headstart.methods import depth_probe, frozen, full, linear_probe, partial, scratch, sparse, surgical
from headstart.methods.records import Applied, Choice, Decline, Group, Method, Suggestion

METHODS: Table[Method] = Table(
    "--method",
    {
        method.name: method
        for method in (
            linear_probe.METHOD,
            depth_probe.METHOD,
            frozen.METHOD,
            partial.METHOD,
            surgical.METHOD,
            sparse.BIAS_ONLY,
            sparse.NORM_ONLY,
            full.METHOD,
            scratch.METHOD,
        )
    },
)

__all__ = ["METHODS", "Applied", "Choice", "Decline", "Group", "Method", "Suggestion"]
