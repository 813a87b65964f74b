"""The network that every task adapts: a body that makes features and a linear head that answers."""

from __future__ import annotations

from torch import Tensor, nn


class Classifier(nn.Module):
    """`body` maps normalised images (N, 3, H, W) to features (N, width); `head` maps those to logits (N, classes).

    Names of parameters are `body.` + the backbone's own names, and `head.weight`, `head.bias`.

    Attributes:
        held: dotted names of modules that stay in evaluation mode whatever `train()` says, so that what is frozen
            (BatchNorm's running statistics, dropout) cannot start to move again at the next epoch.
    """

    def __init__(self, body: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, classes)
        self.held: tuple[str, ...] = ()

    def train(self, mode: bool = True) -> Classifier:
        """The network in training mode, except for what is held."""
        super().train(mode)
        for name in self.held:
            self.get_submodule(name).eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of normalised images (N, 3, H, W)."""
        logits: Tensor = self.head(self.body(images))
        return logits
