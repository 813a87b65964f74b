"""A backbone says the truth about its parts, for families of timm and torchvision that are built very differently."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models

from headstart._core.errors import BadWeights
from headstart.methods.records import backbone_groups
from headstart.tasks import Classifier
from headstart.weights import Backbone, blank

TIMM = (
    "tf_efficientnet_lite0",
    "test_efficientnet",
    "test_resnet",
    "mobilenetv3_small_050",
    "test_convnext",
    "convnext_atto",
    "test_vit",
    "swin_tiny_patch4_window7_224",
    "densenet121",
    "regnetx_002",
    "test_maxvit",
    "test_nfnet",
)
TORCHVISION = (
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "convnext_tiny",
    "densenet121",
    "swin_t",
    "vit_b_32",
    "regnet_y_400mf",
)
ARCHS = (*TIMM, *(f"torchvision/{name}" for name in TORCHVISION))
MOST_STAGES = 25  # ViT-L has 24 blocks and a stem


@dataclass(frozen=True)
class Case:
    """A backbone, an image, the outputs of its stages in the order in which they came, and its features."""

    backbone: Backbone
    image: Tensor
    outputs: list[tuple[str, Tensor]]
    features: Tensor


@pytest.fixture(scope="module", params=ARCHS)
def case(request: pytest.FixtureRequest) -> Case:
    backbone = blank(request.param)
    outputs: list[tuple[str, Tensor]] = []
    for stage in backbone.stages:
        module = backbone.module.get_submodule(stage.output)
        module.register_forward_hook(lambda _m, _i, out, name=stage.name: outputs.append((name, out)))
    contract = backbone.info.preprocess
    image = torch.randn(1, 3, contract.height, contract.width, generator=torch.Generator().manual_seed(1))
    return Case(backbone, image, outputs, backbone.features(image))


def original(arch: str) -> nn.Module:
    """The library's own network with the weights that `blank` has."""
    torch.manual_seed(0)
    if arch.startswith("torchvision/"):
        made: nn.Module = models.get_model(arch.partition("/")[2], weights=None)
    else:
        made = timm.create_model(arch)
    return made.eval()


def test_classifier_of_features_is_the_original_network(case: Case) -> None:
    classifier, whole = case.backbone.classifier, original(case.backbone.info.arch)
    assert isinstance(classifier, nn.Linear)
    last = [module for module in whole.modules() if isinstance(module, nn.Linear)][-1]
    with torch.inference_mode():
        last.weight.normal_(
            std=last.in_features**-0.5
        )  # torchvision's ViT begins with zeros, which would agree with anything
        classifier.weight.copy_(last.weight)
        expected = whole(case.image)
        logits = classifier(case.features)
    assert case.features.shape == (1, case.backbone.width)
    assert float(logits.std()) > 0
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_every_parameter_is_in_exactly_one_stage(case: Case) -> None:
    listed = Counter(name for stage in case.backbone.stages for name in stage.parameters)
    assert listed == Counter(name for name, _ in case.backbone.module.named_parameters())
    assert case.backbone.info.parameters == sum(p.numel() for p in case.backbone.module.parameters())


def test_stages_are_named_in_forward_order(case: Case) -> None:
    names = [stage.name for stage in case.backbone.stages]
    assert names == ["stem", *(f"stage{n}" for n in range(1, len(names)))]
    assert 4 <= len(names) <= MOST_STAGES
    first = next(n for n, m in case.backbone.module.named_modules() if isinstance(m, nn.Conv2d))
    assert f"{first}.weight" in case.backbone.stages[0].parameters


def test_outputs_come_once_and_in_order(case: Case) -> None:
    assert [name for name, _ in case.outputs] == [stage.name for stage in case.backbone.stages]
    for stage, (_, out) in zip(case.backbone.stages, case.outputs, strict=True):
        if stage.channels:
            assert stage.channels in (out.shape[1], out.shape[-1])


def test_an_output_depends_on_no_later_stage(case: Case) -> None:
    """Autograd knows the forward order: what came later has no gradient, and the stage itself has one."""
    module = case.backbone.module
    for number, (_, out) in enumerate(case.outputs):
        own = [module.get_parameter(name) for name in case.backbone.stages[number].parameters]
        later = [
            module.get_parameter(name)
            for stage in case.backbone.stages[number + 1 :]
            for name in stage.parameters
        ]
        found = torch.autograd.grad(out.sum(), [*own, *later], retain_graph=True, allow_unused=True)
        assert any(gradient is not None for gradient in found[: len(own)])
        assert all(gradient is None for gradient in found[len(own) :]), case.backbone.stages[number].name


def test_every_parameter_matters_to_the_features(case: Case) -> None:
    parameters = list(case.backbone.module.parameters())
    found = torch.autograd.grad(case.features.sum(), parameters, retain_graph=True, allow_unused=True)
    assert all(gradient is not None for gradient in found)


def test_modules_belong_to_one_stage(case: Case) -> None:
    known = dict(case.backbone.module.named_modules())
    owners = Counter(name for stage in case.backbone.stages for name in stage.modules)
    assert set(owners) <= set(known)
    assert set(owners.values()) == {1}
    for stage in case.backbone.stages:
        inside = {f"{m}.{n}" for m in stage.modules for n, _ in known[m].named_parameters()}
        assert inside <= set(stage.parameters)


def test_norms_are_the_layers_with_running_statistics(case: Case) -> None:
    names = {
        name.rpartition(".")[0] for name, _ in case.backbone.module.named_buffers() if "running_" in name
    }
    assert set(case.backbone.norms) == names
    assert len(case.backbone.norms) == len(names)


def test_groups_of_a_classifier_cover_buffers_too(case: Case) -> None:
    model = Classifier(case.backbone.module, case.backbone.width, 2)
    groups = backbone_groups(case.backbone, model)
    buffers = Counter(name for _, _, own in groups for name in own)
    assert buffers == Counter(name for name, _ in model.named_buffers())
    for name, parameters, own in groups:  # a norm's statistics lie with its weights
        places = {parameter.rpartition(".")[0] for parameter in parameters}
        assert {b.rpartition(".")[0] for b in own if "running_" in b} <= places, name


def test_the_network_is_ready_for_use(case: Case) -> None:
    assert not any(module.training for module in case.backbone.module.modules())
    assert all(parameter.dtype == torch.float32 for parameter in case.backbone.module.parameters())


def test_a_network_without_one_vector_an_image_is_refused() -> None:
    with pytest.raises(BadWeights):
        blank("torchvision/inception_v3")


def test_a_pretraining_head_of_two_layers_is_not_kept() -> None:
    """A distilled DeiT has two heads on two tokens: no single linear layer on the features gives its logits."""
    assert blank("deit_tiny_distilled_patch16_224").classifier is None
