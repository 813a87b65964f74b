"""Where a network looked: Grad-CAM maps and the small pictures that a report shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from headstart.data.preprocess import Preprocess
from headstart.pixels import contract_pixels, normalise
from headstart.tasks import Network

_OPACITY = 0.8  # of the hottest place
_COOL, _HOT = np.array([255.0, 214.0, 64.0]), np.array([226.0, 32.0, 12.0])  # amber to red


def grad_cam(
    model: Network, images: Tensor, *, answers: Sequence[int], layers: Sequence[nn.Module] = ()
) -> NDArray[np.float32]:
    """Maps (N, h, w) in [0, 1]: how much each place spoke for the answer; all 0 where none did.

    They are taken at the last feature map of the network, right before pooling. Where the head reads that map at one
    place only (a class token), its other places have no gradient, and the first of `layers` that has one is used.

    Args:
        model: in evaluation mode.
        images: normalised (N, 3, H, W).
        answers: the class index to explain, for each image.
        layers: of the model, to fall back on, in the order of preference; their outputs are (N, C, h, w),
            (N, h, w, C) or (N, tokens, C).

    Source: Selvaraju et al. 2017, Grad-CAM.
    """
    caught: list[tuple[nn.Module, Tensor]] = []
    with torch.enable_grad(), _watched(model.body, caught):
        # a fully frozen network still has a gradient towards its input
        logits = model(images.detach().requires_grad_(True))
        score = logits[range(len(answers)), list(answers)].sum()
    outputs = [output for _, output in caught[-1:]]
    outputs += [output for layer in layers for module, output in caught if module is layer]
    found = _first_with_slope(score, outputs)
    if found is None:  # a network without feature maps cannot say where it looked
        return np.zeros((len(images), 1, 1), np.float32)
    maps, slope = found
    weighted = (maps * slope.mean((2, 3), keepdim=True)).sum(1).clamp_min(0).detach()
    peak = weighted.amax((1, 2), keepdim=True).clamp_min(1e-12)
    out: NDArray[np.float32] = (weighted / peak).float().cpu().numpy()
    return out


def _first_with_slope(score: Tensor, outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
    """The first output, as maps, with a place that the score depends on, and the slopes; where none has one, the first.

    One after the other: the way back to the last feature map is a hundredth of that to the first.
    """
    flat: tuple[Tensor, Tensor] | None = None
    for output in outputs:
        found: Sequence[Tensor | None] = torch.autograd.grad(
            score, output, retain_graph=True, allow_unused=True
        )
        slope = found[0]
        if slope is None:
            continue
        pair = _as_maps(output), _as_maps(slope)
        if pair[1].abs().amax() > 0:
            return pair
        flat = flat or pair
    return flat


@contextmanager
def _watched(body: nn.Module, caught: list[tuple[nn.Module, Tensor]]) -> Iterator[None]:
    """Collect (module, output) of every module with an output that has places, in the order of computing."""

    def keep(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and _has_places(output):
            caught.append((module, output))

    handles = [module.register_forward_hook(keep) for module in body.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _has_places(output: Tensor) -> bool:
    """Whether it is a feature map or a row of tokens, rather than pooled features."""
    if output.ndim == 3:
        return output.shape[1] > 1
    return output.ndim == 4 and (output.shape[2] > 1 or output.shape[3] > 1) and output.shape[1] > 1


def _as_maps(output: Tensor) -> Tensor:
    """The layer's output as (N, C, h, w)."""
    if output.ndim == 3:  # tokens, perhaps led by class and register tokens
        side = int(output.shape[1] ** 0.5)
        grid = output[:, output.shape[1] - side * side :]
        return grid.transpose(1, 2).reshape(output.shape[0], -1, side, side)
    if (
        output.shape[1] == output.shape[2] and output.shape[3] > output.shape[1]
    ):  # (N, h, w, C), as Swin has it
        return output.permute(0, 3, 1, 2)
    return output


def picture(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """What the network saw of an upright RGB image: the contract's window."""
    return Image.fromarray(contract_pixels(image, preprocess))


def overlaid(seen: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    """The picture in grey with a map (h, w) in [0, 1] laid over it: amber, then red, where the network looked most.

    Grey, because amber on a yellow flower tells nothing.
    """
    mask = Image.fromarray((heat * 255).round().astype(np.uint8)).resize(seen.size, Image.Resampling.BICUBIC)
    strength = np.asarray(mask, np.float32)[..., None] / 255
    grey = np.asarray(seen.convert("L"), np.float32)[..., None]
    colour = _COOL + (_HOT - _COOL) * strength
    mixed = grey + (colour - grey) * _OPACITY * strength
    return Image.fromarray(mixed.round().astype(np.uint8))


def overlays(
    model: Network,
    pictures: Sequence[Image.Image],
    preprocess: Preprocess,
    *,
    answers: Sequence[int],
    layers: Sequence[nn.Module] = (),
) -> list[Image.Image]:
    """Each picture with its Grad-CAM map laid over it; computed where the model is. See `grad_cam`."""
    if not pictures:
        return []
    pixels = torch.from_numpy(np.stack([np.asarray(seen) for seen in pictures])).permute(0, 3, 1, 2)
    images = normalise(pixels.to(next(model.parameters()).device), preprocess)
    maps = grad_cam(model, images, answers=answers, layers=layers)
    return [overlaid(seen, heat) for seen, heat in zip(pictures, maps, strict=True)]
