"""Where a network looked: Grad-CAM maps and the small pictures that a report shows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from headstart.data.preprocess import Preprocess
from headstart.pixels import contract_pixels, normalise
from headstart.tasks import Classifier

_OVERLAY = 0.5  # opacity of the hottest place


def grad_cam(
    model: Classifier, layer: nn.Module, images: Tensor, *, answers: list[int]
) -> NDArray[np.float32]:
    """Maps (N, h, w) in [0, 1]: how much each place of the layer's output spoke for the answer.

    Args:
        model: in evaluation mode.
        layer: of the model; its output is (N, C, h, w), (N, h, w, C) or (N, tokens, C).
        images: normalised (N, 3, H, W).
        answers: the class index to explain, for each image.

    Source: Selvaraju et al. 2017, Grad-CAM.
    """
    caught: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
    try:
        with torch.enable_grad():  # a fully frozen network still has a gradient towards its input
            logits = model(images.detach().requires_grad_(True))
            gradients = torch.autograd.grad(logits[range(len(answers)), answers].sum(), caught[0])[0]
    finally:
        handle.remove()
    maps = _as_maps(caught[0])
    slopes = _as_maps(gradients)
    weighted = (maps * slopes.mean((2, 3), keepdim=True)).sum(1).clamp_min(0).detach()
    peak = weighted.amax((1, 2), keepdim=True).clamp_min(1e-12)
    out: NDArray[np.float32] = (weighted / peak).float().cpu().numpy()
    return out


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
    """The picture with a map (h, w) in [0, 1] laid over it: red where the network looked most."""
    mask = Image.fromarray((heat * 255 * _OVERLAY).astype(np.uint8)).resize(
        seen.size, Image.Resampling.BICUBIC
    )
    return Image.composite(Image.new("RGB", seen.size, (255, 40, 0)), seen, mask)


def overlays(
    model: Classifier,
    layer: nn.Module,
    pictures: list[Image.Image],
    preprocess: Preprocess,
    *,
    answers: list[int],
) -> list[Image.Image]:
    """Each picture with its Grad-CAM map laid over it; computed where the model is."""
    if not pictures:
        return []
    pixels = torch.from_numpy(np.stack([np.asarray(seen) for seen in pictures])).permute(0, 3, 1, 2)
    images = normalise(pixels.to(next(model.parameters()).device), preprocess)
    maps = grad_cam(model, layer, images, answers=answers)
    return [overlaid(seen, heat) for seen, heat in zip(pictures, maps, strict=True)]
