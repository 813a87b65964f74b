"""A linear head on the backbone's pooled features: one vector of each image, one logit for each class."""

from __future__ import annotations

from headstart.tasks.heads import Head, Plain
from headstart.tasks.model import Classifier
from headstart.weights import Backbone


def build(backbone: Backbone, classes: int, settings: Plain) -> Classifier:
    """The backbone's network under a new linear head."""
    del settings
    return Classifier(backbone.module, backbone.width, classes)


HEAD = Head(
    name="linear",
    tasks=("classify", "multilabel"),
    summary="one linear layer on the pooled features",
    source="Kornblith et al. 2019, Do better ImageNet models transfer better?",
    licence="BSD-3-Clause (torch)",
    build=build,
)
