"""A network taken apart by what it says of itself: stem, stages, norms, width, classifier."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from headstart._core.check import suggestion
from headstart._core.errors import BadWeights
from headstart._core.imports import compiler_later
from headstart.weights import torchvision_nets
from headstart.weights.records import Backbone, Stage, WeightsInfo

with compiler_later():  # timm imports torchvision
    import timm
    from timm.models import group_parameters

_PROBE = 2  # images of the trial pass that measures the width


_TORCHVISION = "torchvision/"


def build(arch: str) -> nn.Module:
    """A blank network of that architecture, with its classifier: timm's, or torchvision's as `torchvision/NAME`.

    Raises:
        BadWeights: for an unknown architecture, with the closest known one.
    """
    if arch.startswith(_TORCHVISION):
        return torchvision_nets.blank(arch.removeprefix(_TORCHVISION))
    if not timm.is_model(arch):
        hint = suggestion(arch, timm.list_models()) or "Names: timm.list_models()"
        raise BadWeights(f"timm knows no architecture {arch!r}.", hint=hint)
    network: nn.Module = timm.create_model(arch, pretrained=False)
    return network


def classifier_of(network: nn.Module, arch: str) -> tuple[str, ...]:
    """Dotted names of the network's pretraining head (some have two)."""
    if arch.startswith(_TORCHVISION):
        return (torchvision_nets.family(arch.removeprefix(_TORCHVISION)).head,)
    names = network.default_cfg["classifier"]  # type: ignore[index]  # timm's own record
    return (names,) if isinstance(names, str) else tuple(names)


def take_apart(network: nn.Module, info: WeightsInfo) -> Backbone:
    """The backbone of a network, its classifier taken off but kept where it is a single linear layer."""
    if info.arch.startswith(_TORCHVISION):
        row = torchvision_nets.family(info.arch.removeprefix(_TORCHVISION))
        classifier = network.get_submodule(row.head)
        network.set_submodule(row.head, nn.Identity())
        stages = _named_stages(network, row.stages)
    else:
        classifier = network.get_classifier()  # type: ignore[operator]  # timm's own methods
        network.reset_classifier(0)  # type: ignore[operator]
        stages = _matched_stages(network)
    network.eval()
    width = _width(network, info)
    kept = classifier if isinstance(classifier, nn.Linear) and classifier.in_features == width else None
    return Backbone(
        info=info, module=network, stages=stages, norms=norm_names(network), width=width, classifier=kept
    )


def norm_names(network: nn.Module) -> tuple[str, ...]:
    """Dotted names of the layers that keep running statistics."""
    kinds = (nn.modules.batchnorm._BatchNorm,)  # timm's BatchNormAct2d is one
    return tuple(
        name for name, m in network.named_modules() if isinstance(m, kinds) and m.track_running_stats
    )


def _matched_stages(network: nn.Module) -> tuple[Stage, ...]:
    """The groups that timm's own matcher makes, the first called stem, closing norms joined to the last real stage."""
    grouped = group_parameters(network, network.group_matcher(coarse=True))  # type: ignore[operator]
    parts = [tuple(names) for _, names in sorted(grouped.items())]
    while len(parts) > 2 and all(network.get_parameter(name).ndim <= 1 for name in parts[-1]):
        parts[-2:] = [parts[-2] + parts[-1]]
    maps = _feature_maps(network)
    outputs = [_output_of(_owners(names), maps, network) for names in parts]
    return _as_stages(parts, outputs)


def _named_stages(network: nn.Module, groups: tuple[tuple[str, ...], ...]) -> tuple[Stage, ...]:
    """The stages that a family names; groups that this size of network lacks are left out, what is left joins the last."""
    left = [name for name, _ in network.named_parameters()]
    parts: list[tuple[str, ...]] = []
    outputs: list[tuple[str, int]] = []
    for group in groups:
        own = tuple(
            name for name in left if any(name == place or name.startswith(f"{place}.") for place in group)
        )
        if not own:
            continue
        left = [name for name in left if name not in own]
        modules = [place for place in group if place in dict(network.named_modules())]
        norm_only = parts and all(network.get_parameter(name).ndim <= 1 for name in own)
        if norm_only:
            parts[-1] += own
            continue
        parts.append(own)
        outputs.append((modules[-1], 0))
    parts[-1] += tuple(left)
    return _as_stages(parts, outputs)


def _as_stages(parts: list[tuple[str, ...]], outputs: list[tuple[str, int]]) -> tuple[Stage, ...]:
    """Stage records; a module belongs to the stage that alone has parameters in or under it."""
    users: dict[str, set[int]] = {}
    for number, names in enumerate(parts):
        for name in names:
            place = name.rpartition(".")[0]
            while place:
                users.setdefault(place, set()).add(number)
                place = place.rpartition(".")[0]
    return tuple(
        Stage(
            name="stem" if number == 0 else f"stage{number}",
            modules=tuple(place for place, owners in users.items() if owners == {number}),
            parameters=names,
            output=output,
            channels=channels,
        )
        for number, (names, (output, channels)) in enumerate(zip(parts, outputs, strict=True))
    )


def _owners(parameters: Iterable[str]) -> tuple[str, ...]:
    """The modules that own these parameters, each once, in order."""
    return tuple(dict.fromkeys(name.rpartition(".")[0] for name in parameters))


def _feature_maps(network: nn.Module) -> dict[str, int]:
    """Module -> channels of the feature maps that timm names."""
    found = getattr(network, "feature_info", [])
    rows = found.info if hasattr(found, "info") else found
    return {row["module"]: row["num_chs"] for row in rows if row.get("module")}


def _output_of(modules: tuple[str, ...], maps: dict[str, int], network: nn.Module) -> tuple[str, int]:
    """The feature map that timm names inside this stage, else the smallest module that holds all of the stage."""
    inside = [name for name in maps if any(m == name or m.startswith(f"{name}.") for m in modules)]
    if inside:
        return inside[-1], maps[inside[-1]]
    place = modules[0]
    while place and not all(m == place or m.startswith(f"{place}.") for m in modules):
        place = place.rpartition(".")[0]
    if place and not isinstance(network.get_submodule(place), nn.ModuleList):
        return place, 0
    return modules[-1], 0


def _width(network: nn.Module, info: WeightsInfo) -> int:
    contract = info.preprocess
    with torch.inference_mode():
        out = network(torch.zeros(_PROBE, 3, contract.height, contract.width))
    if out.ndim != 2:
        raise BadWeights(
            f"{info.arch} gives features of shape {tuple(out.shape)}, not one vector an image.",
            hint="Choose another architecture: headstart weights list",
        )
    return int(out.shape[1])
