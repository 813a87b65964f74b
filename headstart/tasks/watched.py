"""A classifier that also says how unlike its training images an image is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from headstart.metrics.novelty import Novelty
from headstart.tasks.model import Network


class Watched(nn.Module):
    """Logits and, in one more column, the novelty score: (N, classes + 1) of normalised images (N, 3, H, W).

    Args:
        model: the classifier; its logits are uncalibrated.
        bank: features of training images (M, width), each of length one.
        novelty: the scale of the score.
        temperature: > 0; logits are divided by it before their energy is taken.
    """

    def __init__(self, model: Network, bank: Tensor, novelty: Novelty, temperature: float) -> None:
        super().__init__()
        self.model: Any = model
        self.register_buffer("bank", bank)
        self.novelty = novelty
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        """Logits and score (N, classes + 1)."""
        features, logits = self.model.read(images)
        features = features / features.norm(dim=1, keepdim=True).clamp_min(1e-12)
        bank = self.get_buffer("bank").to(features.dtype)
        nearest = (features @ bank.T).topk(self.novelty.neighbours, dim=1).values
        middle, spread = self.novelty.distance
        score = (1 - nearest.mean(1) - middle) / spread
        if self.novelty.energy is not None:
            middle, spread = self.novelty.energy
            score = score + (-torch.logsumexp(logits / self.temperature, 1) - middle) / spread
        return torch.cat([logits, score[:, None]], 1)

    def extra_repr(self) -> str:
        """What makes two watched networks different although their tensors are the same."""
        return f"{self.novelty}, temperature={self.temperature}"
