"""Depthwise convolutions whose gradients take oneDNN's fast kernels on a CPU; the numbers stay the same to rounding.

Measured on AVX512-BF16 with EfficientNet-Lite0, 8 images of 224 px, one core: oneDNN has no fast kernel for the gradient
of a 5 x 5 depthwise kernel (294 ms of 640 ms a step; 29 ms in blocks of 3 x 3), nor in bfloat16 for the gradient of the
input of a strided one (205 ms; 19 ms through float32).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_gradients = torch.ops.aten.convolution_backward
_BLOCK = 3  # the one kernel size whose weight gradient is fast
_CHANNELS_LAST = torch.channels_last


class FastDepthwise(TorchFunctionMode):
    """Within this context every depthwise convolution that trains on a CPU has fast gradients, in any network."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """What `func` returns; `conv2d` goes another way where that is faster."""
        if func is torch.conv2d and not kwargs and torch.is_grad_enabled():
            known = _recognise(*args)
            if known is not None:
                return _Depthwise.apply(*known)
        return func(*args, **(kwargs or {}))


def _recognise(  # noqa: PLR0913  # the arguments of torch.conv2d
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, int, int] | None:
    """(images, weight, bias, stride, padding) in the precision of autocast, or None for what is left to torch."""
    if images.device.type != "cpu" or groups == 1 or images.ndim != 4 or weight.ndim != 4:
        return None
    size = weight.shape[-1]
    numbers = [_single(value) for value in (stride, padding, dilation)]
    square = weight.shape[2] == size and size % 2 == 1 and size >= _BLOCK
    depthwise = groups == images.shape[1] == weight.shape[0]
    if not (square and depthwise) or None in numbers or numbers[2] != 1:
        return None
    if torch.is_autocast_enabled("cpu"):
        lower = torch.get_autocast_dtype("cpu")
        images, weight = images.to(lower), weight.to(lower)
        bias = None if bias is None else bias.to(lower)
    step, pad = int(numbers[0] or 1), int(numbers[1] or 0)
    slow_weight = size > _BLOCK and (images.dtype == torch.bfloat16 or step == 1)
    slow_input = step > 1 and images.dtype == torch.bfloat16
    return (images, weight, bias, step, pad) if slow_weight or slow_input else None


def _single(value: Any) -> int | None:
    """The number that a pair repeats, or None for unequal pairs and words."""
    if isinstance(value, int):
        return value
    if isinstance(value, tuple | list) and len(set(value)) == 1 and isinstance(value[0], int):
        return value[0]
    return None


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, step: int, pad: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.step, ctx.pad, ctx.bias = step, pad, bias is not None
        return torch.conv2d(images, weight, bias, step, pad, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> tuple[Tensor | None, ...]:
        (slope,) = slopes
        images, weight = ctx.saved_tensors
        slope = slope.contiguous(memory_format=_CHANNELS_LAST)
        for_images = for_weight = for_bias = None
        if ctx.needs_input_grad[0]:
            for_images = _input_gradient(slope, images, weight, step=ctx.step, pad=ctx.pad)
        if ctx.needs_input_grad[1]:
            for_weight = _weight_gradient(slope, images, weight, step=ctx.step, pad=ctx.pad)
        if ctx.bias and ctx.needs_input_grad[2]:
            for_bias = slope.sum((0, 2, 3))
        return for_images, for_weight, for_bias, None, None


def _native(slope: Tensor, images: Tensor, weight: Tensor, geometry: tuple[int, int], which: int) -> Tensor:
    """The gradient that torch computes: of the input (0) or of the weight (1)."""
    step, pad = geometry
    wanted = [which == 0, which == 1, False]
    options = ([step, step], [pad, pad], [1, 1], False, [0, 0], weight.shape[0], wanted)
    gradient: Tensor = _gradients(slope, images, weight, None, *options)[which]
    return gradient


def _input_gradient(slope: Tensor, images: Tensor, weight: Tensor, *, step: int, pad: int) -> Tensor:
    """(N, C, H, W); strided bfloat16 goes through float32, for which there is a fast kernel."""
    if step > 1 and slope.dtype == torch.bfloat16:
        shape = torch.empty_like(images, dtype=torch.float32)
        return _native(slope.float(), shape, weight.float(), (step, pad), 0).to(slope.dtype)
    return _native(slope, images, weight, (step, pad), 0)


def _weight_gradient(slope: Tensor, images: Tensor, weight: Tensor, *, step: int, pad: int) -> Tensor:
    """(C, 1, K, K), put together from blocks of 3 x 3: each is the gradient of a 3 x 3 kernel on shifted images."""
    size = weight.shape[-1]
    if size == _BLOCK or (slope.dtype != torch.bfloat16 and step > 1):
        return _native(slope, images, weight, (step, pad), 1)
    if pad:
        images = F.pad(images, (pad, pad, pad, pad))
    high, wide = ((length - 1) * step + _BLOCK for length in slope.shape[2:])
    out = torch.empty_like(weight)
    block = weight.new_empty((weight.shape[0], 1, _BLOCK, _BLOCK))
    places = range(0, size - _BLOCK + 1, _BLOCK - 1)  # they overlap by one, where both blocks agree
    for top in places:
        for left in places:
            shifted = images[:, :, top : top + high, left : left + wide]
            shifted = shifted.contiguous(memory_format=_CHANNELS_LAST)
            out[:, :, top : top + _BLOCK, left : left + _BLOCK] = _native(slope, shifted, block, (step, 0), 1)
    return out
