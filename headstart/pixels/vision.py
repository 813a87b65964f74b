"""What `pixels` takes from torchvision, imported in a tenth of the time."""

from __future__ import annotations

import torch  # noqa: F401  # before the block, as `compiler_later` asks

from headstart._core.imports import compiler_later

with compiler_later():
    from torchvision import tv_tensors
    from torchvision.io import ImageReadMode
    from torchvision.transforms.v2 import functional as F

__all__ = ["F", "ImageReadMode", "tv_tensors"]
