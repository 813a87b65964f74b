"""Images blended in pairs, and their labels with them: a network that is asked in between classes learns them less by heart.

Source: Zhang et al. 2018, mixup: beyond empirical risk minimization.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart._core.seed import generator


@dataclass(frozen=True)
class Mix:
    """How a batch is blended: each image keeps `share` of itself and takes the rest from its partner.

    Attributes:
        share: in [0.5, 1]: an image stays more itself than its partner.
        partners: (N,) positions in the batch.
    """

    share: float
    partners: Tensor

    @classmethod
    def draw(cls, count: int, alpha: float, *, seed: int, step: int) -> Mix:
        """The same one for the same seed and step, so that a resumed run blends as before."""
        rng = generator(seed, "mixup", step)
        share = float(rng.beta(alpha, alpha))
        return cls(max(share, 1 - share), torch.from_numpy(rng.permutation(count)))

    def inputs(self, own: Tensor, other: Tensor) -> Tensor:
        """The blend of images and their partners."""
        return torch.lerp(other, own, self.share)

    def targets(self, truth: Tensor, classes: int) -> Tensor:
        """Shares of the classes (N, classes), from class indices (N,) or labels (N, classes) of 0 and 1."""
        hot = (F.one_hot(truth, classes) if truth.ndim == 1 else truth).float()
        return torch.lerp(hot[self.partners.to(hot.device)], hot, self.share)
