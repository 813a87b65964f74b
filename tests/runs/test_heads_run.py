"""A head that was asked for: what is refused, and what an edited plan may say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from headstart._core import records
from headstart._core.errors import BadOption, BadPlan
from headstart.runs.fit import fit, plan
from tests.tasks.scenes import write

NETWORK = "random:test_resnet"


def test_a_wrong_head_is_told_before_any_work(tmp_path: Path) -> None:
    boxes = write(tmp_path / "data", 8)[0]
    with pytest.raises(BadOption, match="--head does not know 'retina-net'") as caught:
        fit(tmp_path / "nowhere", weights=NETWORK, head="retina-net")
    assert "Did you mean 'retinanet'?" in str(caught.value)
    with pytest.raises(BadOption, match="--head unet is not made for the task detect") as caught:
        fit(boxes, weights=NETWORK, head="unet", out=str(tmp_path / "run"))
    assert "fcos, retinanet, faster-rcnn" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_edited_head_is_checked(tmp_path: Path) -> None:
    boxes = write(tmp_path / "data", 8)[0]
    made = records.to_plain(plan(boxes, weights=NETWORK, method="full", head="retinanet").plan)
    file, head = tmp_path / "plan.json", made["head"]
    records.save(file, made)
    assert plan(boxes, plan=str(file)).plan.head.settings == head["settings"]
    with pytest.raises(BadOption, match="--head has no effect with --plan"):
        plan(boxes, plan=str(file), head="fcos")
    larger = [[2 * size for size in level] for level in head["settings"]["sizes"]]
    edited = made | {"head": head | {"settings": head["settings"] | {"sizes": larger}}}
    records.save(file, edited)
    with pytest.raises(BadPlan, match="`decided` says retinanet: settings = sizes"):
        plan(boxes, plan=str(file))
    records.save(
        file, edited | {"decided": [c for c in made["decided"] if c["what"] != "retinanet: settings"]}
    )
    assert plan(boxes, plan=str(file)).plan.head.settings["sizes"] == larger
    records.save(file, made | {"head": {"name": "unet", "settings": {}}})
    with pytest.raises(BadOption, match="--head unet is not made for the task detect"):
        plan(boxes, plan=str(file))
