"""The pull towards the start, and images blended in pairs: by hand, and inside the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from headstart._core.clock import Clock
from headstart._core.errors import BadPlan
from headstart.methods import METHODS, Decline
from headstart.tasks import TASKS, Classifier
from headstart.training import Pace, TrainingData, fit
from headstart.training.anchor import Anchor
from headstart.training.mixing import Mix, mix_of, window
from headstart.weights import Backbone, blank
from tests.test_methods import facts
from tests.training.test_gradient import backbone, data, prepared, run, same, until

__all__ = ["backbone", "data"]  # fixtures


def test_the_pull_by_hand() -> None:
    body = nn.Linear(2, 2)
    model = Classifier(body, 2, 2)
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    slow, fast = [body.weight, model.head.weight], [body.bias]
    optimizer = torch.optim.SGD([{"params": slow, "lr": 0.1}, {"params": fast, "lr": 0.5}])
    Anchor.of(model, start, 2.0).pull(optimizer)
    assert torch.allclose(body.weight, start["body.weight"] + 0.8)  # 1 - 0.1 * 2
    assert torch.allclose(body.bias, start["body.bias"], atol=1e-6)  # 1 - 0.5 * 2, and never beyond
    assert torch.allclose(model.head.weight, start["head.weight"] + 1.0)  # new, with nothing to go back to


def away(result: Any, source: Backbone) -> float:
    """How far the body is from the pretrained one."""
    before = source.module.state_dict()
    return sum(
        float((value.detach() - before[name.removeprefix("body.")]).square().sum())
        for name, value in result.model.named_parameters()
        if name.startswith("body.")
    )


def test_a_pulled_network_stays_nearer(
    backbone: Backbone,
    data: TrainingData,
    tmp_path: Path,
) -> None:
    far = []
    for strength in (0.0, 50.0, 300.0):
        adapted = prepared(backbone, "full", l2sp=strength)
        _, result = run(adapted, data, Pace(clock=Clock(), folder=tmp_path / str(strength)))
        far.append(away(result, backbone))
        assert "blend" not in result.facts  # the head began at random
    assert far[0] > 1.05 * far[1]
    assert far[1] > 1.05 * far[2] > 0


def test_blended_by_hand() -> None:
    mix = Mix(0.75, torch.tensor([1, 0]))
    own = torch.tensor([[0.0], [4.0]])
    assert mix.inputs(own, own[mix.partners]).tolist() == [[1.0], [3.0]]
    assert mix.targets(torch.tensor([0, 2]), 3).tolist() == [[0.75, 0, 0.25], [0.25, 0, 0.75]]
    assert mix.targets(torch.tensor([[1, 1], [0, 1]]), 2).tolist() == [[0.75, 1.0], [0.25, 1.0]]


def test_blends_depend_on_seed_and_step_alone() -> None:
    first, again = (Mix.draw(16, 0.4, seed=1, step=5) for _ in range(2))
    assert first.share == again.share
    assert torch.equal(first.partners, again.partners)
    shares = [Mix.draw(16, 0.4, seed=1, step=step).share for step in range(400)]
    assert all(0.5 <= share <= 1 for share in shares)
    assert len(set(shares)) > 390
    assert sorted(first.partners.tolist()) == list(range(16))


def test_the_loss_of_a_blend_is_the_blend_of_losses() -> None:
    """mixup's own definition, for a task's loss with the soft labels."""
    logits, truth = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    mix = Mix.draw(6, 1.0, seed=0, step=0)
    found = TASKS["classify"].loss(logits, mix.targets(truth, 3), None, 0.0)
    own, other = F.cross_entropy(logits, truth), F.cross_entropy(logits, truth[mix.partners])
    assert found.item() == pytest.approx(mix.share * own.item() + (1 - mix.share) * other.item(), abs=1e-6)


# CutMix


def test_a_window_by_hand() -> None:
    """A window of half the side around the corner (0, 9): rows -2 to 2 and columns 7 to 12, of which 2 x 3 are inside."""
    box = window(8, 10, 0.5, centre=(0, 9))
    assert (box.top, box.bottom, box.left, box.right) == (0, 2, 7, 10)
    mix = Mix(1 - 6 / 80, torch.tensor([1, 0]), box)
    own = torch.stack([torch.zeros(1, 8, 10), torch.ones(1, 8, 10)])
    mixed = mix.inputs(own, own[mix.partners])
    assert mixed[0].sum() == 6
    assert mixed[1].sum() == 74
    assert mixed[0, 0, :2, 7:].min() == 1
    assert own[0].sum() == 0, "the batch itself is not changed"
    assert mix.targets(torch.tensor([[1, 1], [0, 1]]), 2)[:, 0].tolist() == pytest.approx([74 / 80, 6 / 80])


def test_the_share_is_the_exact_area() -> None:
    """Over many steps, of odd maps too: what the labels say is the share of places that were kept, whole and empty windows
    included; a uniform share and the border leave 66 % on average: E[1 - min(1, ...)] by simulation apart from the code."""
    shares = []
    for step in range(300):
        mix = Mix.cut((2, 1, 7, 5), 1.0, seed=4, step=step)
        own = torch.stack([torch.zeros(1, 7, 5), torch.ones(1, 7, 5)])
        partners = torch.tensor([1, 0])
        kept = 1 - float(mix.inputs(own, own[partners])[0].mean())
        assert mix.share == pytest.approx(kept, abs=1e-6)
        shares.append(mix.share)
    assert min(shares) < 0.2
    assert max(shares) > 0.95
    draw = np.random.default_rng(0)
    side, centre = np.sqrt(draw.random((20_000, 1))), draw.random((20_000, 2))
    low, high = np.clip(centre - side / 2, 0, 1), np.clip(centre + side / 2, 0, 1)
    assert np.mean(shares) == pytest.approx(1 - (high - low).prod(1).mean(), abs=0.06)


def test_a_cut_depends_on_seed_and_step_alone() -> None:
    first, again = (Mix.cut((4, 3, 32, 32), 1.0, seed=1, step=5) for _ in range(2))
    assert (first.share, first.box) == (again.share, again.box)
    assert torch.equal(first.partners, again.partners)
    assert len({Mix.cut((4, 3, 32, 32), 1.0, seed=1, step=step).box for step in range(50)}) > 40


def test_a_step_does_one_or_the_other() -> None:
    def kinds(**asked: float) -> list[bool | None]:
        usual = {"mixup": 0.0, "cutmix": 0.0}
        found = [mix_of((4, 3, 8, 8), **(usual | asked), seed=0, step=step) for step in range(200)]
        return [None if each is None else each.box is not None for each in found]

    assert set(kinds()) == {None}
    assert set(kinds(mixup=0.4)) == {False}
    assert set(kinds(cutmix=1.0)) == {True}
    both = kinds(mixup=0.4, cutmix=1.0)
    assert set(both) == {False, True}
    assert 70 <= sum(map(bool, both)) <= 130


def test_tokens_have_no_windows() -> None:
    with pytest.raises(BadPlan, match=r"--cutmix needs maps .*\(197, 64\)"):
        mix_of((4, 197, 64), mixup=0.0, cutmix=1.0, seed=0, step=0)


@pytest.mark.parametrize("method", ["full", "partial"])
@pytest.mark.parametrize(
    "given",
    [
        {"mixup": 0.4},
        {"l2sp": 20.0},
        {"mixup": 0.4, "class_weights": "auto"},
        {"cutmix": 1.0},
        {"mixup": 0.4, "cutmix": 1.0, "ema": 0.9},
    ],
)
def test_resumed_equals_uninterrupted(
    given: dict[str, Any],
    method: str,
    backbone: Backbone,
    data: TrainingData,
    tmp_path: Path,
) -> None:
    def pace(name: str) -> Pace:
        return Pace(clock=Clock(), folder=tmp_path / name, every=0.0)

    _, whole = run(prepared(backbone, method, **given), data, pace("whole"))
    until(iter(fit(prepared(backbone, method, **given), data, pace("cut"))), 4)
    _, resumed = run(prepared(backbone, method, **given), data, pace("cut"))
    assert same(whole.model, resumed.model)
    _, plain = run(prepared(backbone, method), data, pace("plain"))
    assert not same(whole.model, plain.model)  # the option has an effect


def test_micro_batches_blend_alike(
    backbone: Backbone,
    data: TrainingData,
    tmp_path: Path,
) -> None:
    """A partner may sit in another micro-batch; gradients are those of the whole batch."""
    from headstart.training.gradient import _open

    found = []
    for micro in (16, 5):
        loop, _ = _open(
            prepared(backbone, "full", mixup=1.0), data, Pace(clock=Clock(), folder=tmp_path / str(micro))
        )
        loop.engine.micro, loop.engine.lower = micro, None
        loop.engine.network.train()
        batch = next(iter(loop.batches(0, 0)))
        targets = torch.tensor([data.train[place].labels[0] for place in batch.positions])
        mix = Mix.draw(len(targets), 1.0, seed=3, step=0)
        soft = mix.targets(targets, 2)
        loss = loop.engine.backward(loop._part(batch, mix), soft, loss=loop._loss(soft), seed=0)
        found.append((float(loss), [p.grad.clone() for p in loop.model.parameters() if p.grad is not None]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_random_weights_are_no_anchor() -> None:
    answer = METHODS["scratch"].suggest(facts(), None, blank("test_resnet"), {"l2sp": 1.0})
    assert isinstance(answer, Decline)
    assert "--l2sp" in answer.reason
