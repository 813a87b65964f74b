"""What a network's channels look like on its own pretraining domain: BatchNorm's memory, or a measured stand-in."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from headstart._core import files
from headstart._core.errors import BadInput, BadWeights
from headstart._core.places import cache_folder
from headstart.data.records import Sample
from headstart.similarity.moments import Place, image_moments
from headstart.weights import Backbone

ENOUGH = 64
"""Images below which measured statistics are too noisy to be a reference."""

_FLOOR_SHARE = (
    1e-2  # of BatchNorm's own epsilon, which hides anything much smaller from the rest of the network
)
_EPSILON = 1e-5  # LayerNorm networks: torch's usual epsilon


@dataclass(frozen=True)
class Reference:
    """Mean and variance of each channel at each place on the pretraining domain.

    Attributes:
        places: in forward order.
        means: for each place (channels,).
        variances: for each place (channels,).
        floors: for each place the variance below which two channels count as equally still.
        made: how, in words for the user.
    """

    places: tuple[Place, ...]
    means: tuple[NDArray[np.float64], ...]
    variances: tuple[NDArray[np.float64], ...]
    floors: tuple[float, ...]
    made: str


def reference_of(backbone: Backbone) -> tuple[Reference | None, str]:
    """The reference of a network and an empty reason, or None and the reason why there is none.

    BatchNorm's running statistics come first; then statistics that `save_reference` has put into the cache.

    Raises:
        BadInput: for a damaged file in the cache.
    """
    if backbone.info.objective == "none":
        return None, f"{backbone.info.name} has random weights, which come from no domain"
    found = batchnorm_reference(backbone)
    if found is not None:
        return found, ""
    found = load_reference(backbone)
    if found is not None:
        return found, ""
    if backbone.norms:
        return (
            None,
            f"the BatchNorm statistics of {backbone.info.name} were never filled (all means 0, variances 1)",
        )
    return None, (
        f"{backbone.info.arch} keeps no BatchNorm statistics, and no reference statistics of {backbone.info.name} are "
        "stored; similarity.reference_statistics makes them from images of its pretraining domain"
    )


def batchnorm_reference(backbone: Backbone) -> Reference | None:
    """The running statistics of all BatchNorm layers, or None where there are none or they were never filled."""
    layers = [backbone.module.get_submodule(name) for name in backbone.norms]
    means = tuple(_doubles(layer.running_mean) for layer in layers)
    variances = tuple(_doubles(layer.running_var) for layer in layers)
    if all((mean == 0).all() and (var == 1).all() for mean, var in zip(means, variances, strict=True)):
        return None
    return Reference(
        places=tuple(
            Place(module=name, side="input", channels=len(mean))
            for name, mean in zip(backbone.norms, means, strict=True)
        ),
        means=means,
        variances=variances,
        floors=tuple(float(layer.eps) * _FLOOR_SHARE for layer in layers),  # type: ignore[arg-type]
        made="BatchNorm running statistics",
    )


def reference_statistics(backbone: Backbone, samples: Sequence[Sample], *, made: str) -> Reference:
    """Statistics of every stage's output over images of the pretraining domain, for networks without BatchNorm.

    Args:
        backbone: any network that names its stages.
        samples: images of the domain, 64 or more, as varied as the domain is.
        made: what these images are, in words for the user: `128 ImageNet validation photos`.

    Raises:
        BadInput: for fewer images.
    """
    if len(samples) < ENOUGH:
        raise BadInput(
            f"{len(samples)} images are too few for reference statistics.",
            hint=f"Give {ENOUGH} or more images of the pretraining domain.",
        )
    places = [Place(module=stage.output, side="output", channels=stage.channels) for stage in backbone.stages]
    moments = image_moments(backbone, samples, places=places)
    variances = tuple(
        within.mean(0) + means.var(0) for means, within in zip(moments.means, moments.variances, strict=True)
    )
    return Reference(
        places=moments.places,
        means=tuple(means.mean(0) for means in moments.means),
        variances=variances,
        floors=tuple(_EPSILON * _FLOOR_SHARE for _ in variances),
        made=made,
    )


def reference_path(backbone: Backbone) -> Path:
    """Where statistics of these weights are kept: `$HEADSTART_CACHE/reference/SHA256.npz`, by the weights' hash.

    Raises:
        BadWeights: for weights without a hash.
    """
    if not backbone.info.sha256:
        raise BadWeights(
            f"{backbone.info.name} has no hash by which its statistics could be kept.",
            hint="Load it from a file: --weights file:PATH --arch NAME",
        )
    return cache_folder("reference") / f"{backbone.info.sha256}.npz"


def save_reference(backbone: Backbone, reference: Reference) -> Path:
    """The file into which the statistics were written, whole or not at all.

    Raises:
        BadWeights: for weights without a hash.
        BadInput: when the cache cannot be written to.
    """
    path = reference_path(backbone)
    arrays = {
        "modules": np.array([place.module for place in reference.places]),
        "sides": np.array([place.side for place in reference.places]),
        "floors": np.array(reference.floors),
        "made": np.array(reference.made),
    }
    for number, (mean, variance) in enumerate(zip(reference.means, reference.variances, strict=True)):
        arrays |= {f"mean{number}": mean, f"variance{number}": variance}
    with files.atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes the names for its options
    return path


def load_reference(backbone: Backbone) -> Reference | None:
    """The stored statistics of these weights, or None where there are none.

    Raises:
        BadInput: for a damaged file, or one made for another network.
    """
    if not backbone.info.sha256 or not reference_path(backbone).exists():
        return None
    path, modules = reference_path(backbone), dict(backbone.module.named_modules())
    try:
        with np.load(path, allow_pickle=False) as stored:
            names, sides = stored["modules"].tolist(), stored["sides"].tolist()
            means = tuple(stored[f"mean{number}"] for number in range(len(names)))
            variances = tuple(stored[f"variance{number}"] for number in range(len(names)))
            floors, made = tuple(stored["floors"].tolist()), str(stored["made"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(
            f"The reference statistics {path} cannot be read: {error}.",
            hint="Delete the file and make it again.",
        ) from error
    unknown = [name for name in names if name not in modules]
    if unknown:
        raise BadInput(
            f"The reference statistics {path} name {unknown[0]!r}, which {backbone.info.arch} lacks.",
            hint="Delete the file and make it again with this version of the network.",
        )
    places = tuple(
        Place(module=name, side=side, channels=len(mean))
        for name, side, mean in zip(names, sides, means, strict=True)
    )
    return Reference(places, means, variances, floors, made)


def _doubles(tensor: object) -> NDArray[np.float64]:
    assert isinstance(tensor, torch.Tensor)
    return tensor.detach().double().cpu().numpy()
