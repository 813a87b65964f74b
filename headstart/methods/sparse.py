"""Tuning of a thousandth of the network: only the affine parameters of its norms, or only its biases, and the head.

On request only: it takes as long as full fine-tuning and can do less; it is there for whoever must ship tiny differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from headstart._core.records import record
from headstart.data.records import DatasetFacts
from headstart.methods import full
from headstart.methods.records import Applied, Decline, Group, Method, Suggestion, backbone_groups

if TYPE_CHECKING:  # the table of methods is read to make flags and help, without torch
    from torch import nn

    from headstart.evidence import Evidence
    from headstart.tasks import Network
    from headstart.weights import Backbone

Pick = Callable[["nn.Module"], Iterator[str]]
"""A network -> dotted names of its parameters that are tuned."""


@record
class NormOnlyParams(full.FullParams):
    """Parameters of norm-only tuning: those of full fine-tuning, with rates for so few numbers."""

    learning_rate: float = 2e-3
    layer_decay: float = 1.0
    head_factor: float = 1.0
    weight_decay: float = 0.0


@record
class BiasOnlyParams(full.FullParams):
    """Parameters of bias-only tuning: those of full fine-tuning, with rates for so few numbers."""

    learning_rate: float = 2e-3
    layer_decay: float = 1.0
    head_factor: float = 1.0
    weight_decay: float = 0.0


def norm_parameters(body: nn.Module) -> Iterator[str]:
    """Names of the scales and shifts of all normalisation layers, those of timm and torchvision included."""
    from torch import nn  # which the table itself does not need

    kinds = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    for place, module in body.named_modules():
        if isinstance(module, kinds) or _normalises(module):
            yield from (f"{place}.{name}" for name, _ in module.named_parameters(recurse=False))


def _normalises(module: nn.Module) -> bool:
    """Whether timm calls it a norm: its own kinds share no base class, only the keyword that makes them."""
    own = [parameter for _, parameter in module.named_parameters(recurse=False)]
    return hasattr(module, "eps") and bool(own) and all(each.ndim == 1 for each in own)


def bias_parameters(body: nn.Module) -> Iterator[str]:
    """Names of what is added to the output of a layer, norms included."""
    for place, module in body.named_modules():
        if getattr(module, "bias", None) is not None and "bias" in dict(
            module.named_parameters(recurse=False)
        ):
            yield f"{place}.bias"


def _suggest(kind: type[full.FullParams], pick: Pick, what: str) -> Callable[..., Suggestion | Decline]:
    def suggest(
        facts: DatasetFacts, evidence: Evidence | None, backbone: Backbone, given: dict[str, Any]
    ) -> Suggestion | Decline:
        """As for full fine-tuning; a network without such parameters declines."""
        if not any(True for _ in pick(backbone.module)):
            return Decline(reason=f"{backbone.info.arch} has no {what}: use the method partial or full")
        return full.resolve(kind, facts, backbone, given, evidence=evidence)

    return suggest


def _apply(pick: Pick, what: str) -> Callable[[Backbone, Network, Any], Applied]:
    def apply(backbone: Backbone, model: Network, params: full.FullParams) -> Applied:
        """For each stage a group that is frozen and one that is tuned, called `stage1 norms` or `stage1 biases`."""
        tuned = {f"body.{name}" for name in pick(model.body)}
        norms = tuple(f"body.{name}" for name in backbone.norms)
        *whole, head = full.tuning_groups(backbone, model, params)
        groups = []
        for group, (name, parameters, buffers) in zip(whole, backbone_groups(backbone, model), strict=True):
            own = tuple(each for each in parameters if each in tuned)
            rest = tuple(each for each in parameters if each not in tuned)
            groups.append(
                Group(name, rest, buffers, None, None, trains=False, buffers_may_move=group.buffers_may_move)
            )
            if own:
                told = f"{name} {what}"
                groups.append(
                    Group(told, own, (), group.lr, group.weight_decay, trains=True, buffers_may_move=False)
                )
        return Applied(
            groups=(*groups, head),
            held=() if params.batchnorm == "tuned" else norms,
            reestimate=norms if params.batchnorm == "re-estimated" else (),
        )

    return apply


NORM_ONLY = Method(
    name="norm-only",
    summary="fine-tuning of the scales and shifts of the normalisation layers alone",
    solver="gradient",
    params=NormOnlyParams,
    check=full.check,
    suggest=_suggest(NormOnlyParams, norm_parameters, "normalisation layers with scale and shift"),
    apply=_apply(norm_parameters, "norms"),
    reach=0.6,
    on_request=True,
)

BIAS_ONLY = Method(
    name="bias-only",
    summary="fine-tuning of the biases alone",
    solver="gradient",
    params=BiasOnlyParams,
    check=full.check,
    suggest=_suggest(BiasOnlyParams, bias_parameters, "biases"),
    apply=_apply(bias_parameters, "biases"),
    reach=0.5,
    on_request=True,
)
