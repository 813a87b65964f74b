"""The networks that tasks adapt: a body that makes features, and heads of the task's own."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Network(nn.Module):
    """A `body`, the backbone's own network, and what a task puts on it; maps normalised images to the task's outputs.

    Names of parameters are `body.` + the backbone's own names; everything else belongs to the head.

    Attributes:
        held: dotted names of modules that stay in evaluation mode whatever `train()` says, so that what is frozen
            (BatchNorm's running statistics, dropout) cannot start to move again at the next epoch.
        head: what gives the answers.
        read: of classifiers: images -> what the head reads, and logits.
    """

    head: Any
    read: Any

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.held: tuple[str, ...] = ()

    def train(self, mode: bool = True) -> Network:
        """The network in training mode, except for what is held."""
        super().train(mode)
        for name in self.held:
            self.get_submodule(name).eval()
        return self

    def head_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that are not the body's."""
        return tuple(name for name, _ in self.named_parameters() if not name.startswith("body."))

    def head_buffers(self) -> tuple[str, ...]:
        """Names of the buffers that are not the body's."""
        return tuple(name for name, _ in self.named_buffers() if not name.startswith("body."))


class Classifier(Network):
    """`body` maps normalised images (N, 3, H, W) to features (N, width); `head` maps those to logits (N, classes).

    Names of parameters are `body.` + the backbone's own names, and `head.weight`, `head.bias`.
    """

    def __init__(self, body: nn.Module, width: int, classes: int) -> None:
        super().__init__(body)
        self.head = nn.Linear(width, classes)

    def train(self, mode: bool = True) -> Classifier:
        """The network in training mode, except for what is held."""
        super().train(mode)
        return self

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the head reads (N, width), and logits (N, classes), of normalised images (N, 3, H, W)."""
        features = self.body(images)
        return features, self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of normalised images (N, 3, H, W)."""
        return self.read(images)[1]


class Turned(nn.Module):
    """A classifier that is shown mirror images."""

    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of the mirror images of normalised images (N, 3, H, W)."""
        logits: Tensor = self.inner(images.flip(-1))
        return logits


class Mirrored(Classifier):
    """A classifier that gives the mean of another's logits for an image and for its mirror image, in twice the time.

    Parameters are named `inner.` + their names in the classifier inside.
    """

    def __init__(self, inner: Network) -> None:
        nn.Module.__init__(self)  # body and head are those of the classifier inside
        self.inner: Any = inner
        self.held = tuple(f"inner.{name}" for name in inner.held)

    @property
    def body(self) -> nn.Module:  # type: ignore[override]
        """The body of the classifier inside."""
        body: nn.Module = self.inner.body
        return body

    @property
    def head(self) -> Any:
        """The head of the classifier inside."""
        return self.inner.head

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the head reads of the image itself (N, width), and the mean logits (N, classes)."""
        features, logits = self.inner.read(images)
        return features, (logits + self.inner(images.flip(-1))) / 2


def unmirrored(model: Network) -> Network:
    """The classifier inside, or the classifier itself where it is not mirrored."""
    return model.inner if isinstance(model, Mirrored) else model
