"""What is known about pretrained weights, and the network they are loaded into."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from headstart._core.records import record
from headstart.data.preprocess import Preprocess


@record
class WeightsInfo:
    """One pretrained checkpoint: where it comes from, what it expects and what may be done with it.

    Attributes:
        name: `source:id`, what the user types after `--weights`.
        arch: timm architecture name, or `torchvision/NAME`.
        licence: SPDX identifier where there is one; `unknown` where the source does not say.
        source: where the file comes from (package, hub repository, path).
        sha256: of the file, empty where the source publishes none and it was not yet loaded.
        parameters: number of the backbone's parameters, without the classifier.
        preprocess: the contract of these weights.
        data: what it was pretrained on: `ImageNet-1k`.
        objective: `supervised`, `self-supervised`, `masked image` (pixels were to be filled in; what is learnt shows only
            after fine-tuning), `contrastive text-image`, `none` (random weights).
        top1: ImageNet-1k accuracy in [0, 1] where it is published, else None.
        paper: reference.
        commercial: whether the licence allows commercial use; None where unknown.
        top1_by: how `top1` was reached: `classifier` (its own), `linear probe`, `zero-shot`; empty where there is none.
        top1_from: where that number is published.
        tuned: ImageNet-1k accuracy in [0, 1] after fine-tuning all of it, where `top1` is another's and it is published.
        domain: what kind of images it was made for: `photos`, `satellite`, `histology`, `radiology`, `plants`.
    """

    name: str
    arch: str
    licence: str
    source: str
    preprocess: Preprocess
    sha256: str = ""
    parameters: int = 0
    data: str = "unknown"
    objective: str = "supervised"
    top1: float | None = None
    paper: str = ""
    commercial: bool | None = None
    top1_by: str = ""
    top1_from: str = ""
    tuned: float | None = None
    domain: str = "photos"


@record
class Stage:
    """A contiguous part of the network between input and head.

    Attributes:
        name: `stem`, `stage1` … `stageN`, in forward order. Everything before the head belongs to exactly one stage.
        modules: dotted names of the modules in it, as in `module.named_modules()`.
        parameters: dotted names of the parameters in it, as in `module.named_parameters()`.
        output: dotted name of the module whose output is this stage's output.
        channels: channels (or embedding width) of that output; 0 where the architecture does not say.
    """

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    output: str
    channels: int = 0


@dataclass(frozen=True)
class Backbone:
    """A network that names its own parts, so that nobody guesses structure from positions.

    `features(x)` maps (N, 3, H, W) normalised input to (N, `width`) pooled features, exactly what the network's own
    classifier saw in pretraining; `module` is the whole network with its head replaced by the identity.

    Attributes:
        module: the network without a classifier, in evaluation mode; maps (N, 3, H, W) to (N, width).
        stages: `stem`, `stage1` … in forward order, covering every parameter of `module` exactly once.
        norms: dotted names of the normalisation layers that keep running statistics (BatchNorm).
        width: size of the pooled features.
        classifier: the pretraining head (width -> source classes) where the checkpoint has one, else None.
    """

    info: WeightsInfo
    module: nn.Module
    stages: tuple[Stage, ...]
    norms: tuple[str, ...]
    width: int
    classifier: nn.Module | None = None

    def features(self, images: Tensor) -> Tensor:
        """Pooled features (N, width) of normalised images (N, 3, H, W)."""
        out: Tensor = self.module(images)
        return out
