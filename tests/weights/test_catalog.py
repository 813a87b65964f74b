"""The shortlist: which weights it holds, what it says of them, and that it says so without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

import headstart.weights as weights
from headstart._core.errors import BadWeights
from headstart.weights.catalog import BUNDLED, KNOWN, timm_info
from tests.weights.conftest import Server, state, tensors

ROWS = weights.catalog_rows()
BY_NAME = {row.name: row for row in ROWS}


def test_about_twenty_five_from_a_phone_to_a_workstation() -> None:
    assert 25 <= len(ROWS) <= 35
    sizes = sorted(row.parameters for row in ROWS)
    assert sizes[0] < 3e6
    assert sizes[-1] > 300e6
    assert {row.objective for row in ROWS} == {
        "supervised",
        "self-supervised",
        "masked image",
        "contrastive text-image",
    }
    assert {row.domain for row in ROWS} == {"photos", "satellite", "histology", "radiology", "plants"}


def test_no_checkpoint_is_named_twice() -> None:
    names = [row.name.lower() for row in ROWS]
    assert len(set(names)) == len(names)
    assert len({row.source for row in ROWS}) == len(ROWS)
    assert len(ROWS) == len(BUNDLED) + len(KNOWN)


@pytest.mark.parametrize("name", list(BY_NAME))
def test_a_row_resolves_offline_and_says_where_its_number_is_from(name: str) -> None:
    """The suite's hub is a closed port: whatever asked a network would fail here."""
    row = weights.info(name)
    assert row == BY_NAME[name]
    assert (
        bool(row.top1) == bool(row.top1_from) == (row.top1_by in ("classifier", "linear probe", "zero-shot"))
    )
    assert row.tuned is None or row.top1 is None or row.tuned > row.top1
    if row.objective == "masked image":
        assert row.tuned is not None, "without it, nothing says what fine-tuning would make of these weights"
    if row.top1_by == "classifier":
        assert row.objective == "supervised"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("bundled:efficientnet_lite0", True),
        ("timm:vit_small_patch14_dinov2.lvd142m", True),
        ("timm:vit_small_patch16_dinov3.lvd1689m", True),
        ("timm:vit_base_patch16_224.mae", False),
        ("timm:convnextv2_tiny.fcmae_ft_in22k_in1k", False),
        ("hf:1aurent/vit_small_patch16_224.lunit_dino", False),
        ("hf:PlantNet/vit_base_patch14_reg4_dinov2_lvd142m.pc24_all", None),
    ],
)
def test_what_the_licence_allows(name: str, allowed: bool | None) -> None:
    assert BY_NAME[name].commercial is allowed


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("apache-2.0", True),
        ("MIT", True),
        ("cc-by-nc-4.0", False),
        ("fair-noncommercial-research-license", False),
        ("lunit-non-commercial", False),
        ("apple-ascl", None),
        (None, None),
    ],
)
def test_a_licence_that_is_not_known_to_be_open_is_not_taken_for_it(
    licence: str | None, allowed: bool | None
) -> None:
    config: dict[str, object] = {
        "license": licence,
        "input_size": (3, 160, 160),
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
    }
    row = timm_info("file:own", arch="test_resnet", source="here", config=config)
    assert row.commercial is allowed


def test_what_is_on_this_machine(tmp_path: Path, hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights.on_this_machine("bundled:efficientnet_lite0")
    assert weights.on_this_machine("random:test_resnet")
    assert not weights.on_this_machine("timm:test_resnet")
    assert not weights.on_this_machine("torchvision:resnet18")
    assert not weights.on_this_machine(f"file:{tmp_path / 'own.safetensors'}")
    assert not hub.asked, "only looked at"
    hub.put("timm/test_resnet.r160_in1k", "model.safetensors", tensors(state()))
    weights.load("timm:test_resnet")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert weights.on_this_machine("timm:test_resnet")
    by_hand = tmp_path / "cache" / "weights" / "PlantNet--vit_base_patch14_reg4_dinov2_lvd142m.pc24_all"
    by_hand.mkdir(parents=True)
    (by_hand / "model.safetensors").touch()
    name = "hf:PlantNet/vit_base_patch14_reg4_dinov2_lvd142m.pc24_all"
    assert not weights.on_this_machine(name), "its contract is in config.json"
    (by_hand / "config.json").touch()
    assert weights.on_this_machine(name)


def test_weights_of_a_repository_are_not_loaded_by_a_contract_that_was_guessed(tmp_path: Path) -> None:
    by_hand = tmp_path / "cache" / "weights" / "1aurent--resnet50.lunit_mocov2"
    by_hand.mkdir(parents=True)
    (by_hand / "model.safetensors").write_bytes(tensors(state()))
    assert weights.info("hf:1aurent/resnet50.lunit_mocov2").arch == "resnet50"
    with pytest.raises(BadWeights, match=r"config\.json cannot be reached"):
        weights.load("hf:1aurent/resnet50.lunit_mocov2")


def test_whether_the_hub_answers(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights.hub_reachable()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert not weights.hub_reachable()
