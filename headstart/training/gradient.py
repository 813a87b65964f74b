"""The solver `gradient`: one visible loop, steps only."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from headstart import compute
from headstart._core.errors import BadPlan
from headstart._core.seed import derive
from headstart.adaptation import Adapted
from headstart.compute import native_bfloat16
from headstart.data.records import Sample
from headstart.metrics import told_mean
from headstart.pixels import Batch
from headstart.tasks import Network
from headstart.training import checkpoint, prefix
from headstart.training.anchor import Anchor
from headstart.training.averaging import Average
from headstart.training.begin import reestimate_norms, start_head, take_heads
from headstart.training.blend import SHARES, best_share, between, calibrated_losses, start_of
from headstart.training.calibrating import calibrate, fold_into
from headstart.training.class_weights import weights_of
from headstart.training.compiling import Compiled, pays
from headstart.training.engine import Engine, Loss, Part, default_micro
from headstart.training.feed import Feed, Pixels
from headstart.training.folding import twin_of
from headstart.training.judged import judged
from headstart.training.mixing import Mix, mix_of
from headstart.training.records import Event, FitResult, Pace, TrainingData
from headstart.training.schedule import epoch_groups, looks, make_optimizer, rate

_CLIP = 1.0  # largest norm of the gradient: one bad batch must not undo pretraining
_PACE_STEPS = 3  # the first step is slow (allocation, threads); the mean of three is a careful guess
_LOOKS = 12  # at the validation images, where answers have places: each costs a good part of an epoch
_MEMORIES = 8  # that a schedule must hold of what the average remembers; then that is hardly ever worse than the network
_FORWARD_SHARE = 0.35  # a forward pass costs about a third of a training step
_SAFETY = 0.9
_LOOK = 10  # steps between two looks at the loss on a GPU, which has to stop for each


@dataclass
class Loop:
    """What one training run holds in its hands: the live objects that the loop's steps share."""

    adapted: Adapted
    data: TrainingData
    engine: Engine
    feed: Feed
    optimizer: Optimizer
    weights: Tensor | None
    per_epoch: int
    steps: int
    anchor: Anchor | None
    average: Average | None = None
    pending: list[Tensor] = field(default_factory=list)

    @property
    def model(self) -> Network:
        """The network whose parameters train."""
        return self.adapted.model

    def batches(self, epoch: int, skip: int) -> Iterator[Batch]:
        """The batches of an epoch after the first `skip`."""
        size = self.adapted.params.batch_size
        groups = epoch_groups(len(self.data.train), size, seed=self.data.seed, epoch=epoch)
        return self.feed.epoch(epoch, [group.tolist() for group in groups[skip:]])

    def truth(self, batch: Batch, targets: Any) -> Any:
        """What is true of a batch: what moved with its pixels, else its part of all training targets."""
        return self.data.task.together(batch.truth or [targets[place] for place in batch.positions])

    def step(self, number: int, batch: Batch, truth: Any) -> None:
        """One optimiser step; its loss waits in `pending`, because to look at it a GPU would have to stop."""
        share = rate(number, self.steps, self.adapted.params.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        params = self.adapted.params
        if isinstance(truth, Tensor):
            truth = truth.to(self.engine.device)
        mix = mix_of(
            batch.pixels.shape, mixup=params.mixup, cutmix=params.cutmix, seed=self.data.seed, step=number
        )
        if mix is not None:
            truth = mix.targets(truth, len(self.data.classes))
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.engine.backward(
            self._part(batch, mix),
            truth,
            loss=self._loss(truth),
            seed=derive(self.data.seed, "step", number),
        )
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        self.optimizer.step()
        if self.anchor is not None:
            self.anchor.pull(self.optimizer)
        if self.average is not None:
            self.average.update(self.model, number)
        self.pending.append(loss)

    def _part(self, batch: Batch, mix: Mix | None) -> Part:
        """Network input of some of the batch's images, blended with their partners where `mix` says so."""

        def plain(rows: slice | Tensor) -> Tensor:
            return self.feed.inputs(batch.pixels[rows])

        return plain if mix is None else lambda rows: mix.inputs(plain(rows), plain(mix.partners[rows]))

    def _loss(self, truth: Any) -> Loss:
        """The part that some of a batch's images have in its mean loss; class weights are part of the mean."""
        task, weights, smoothing = self.data.task, self.weights, self.adapted.params.label_smoothing
        weighted = weights is not None and truth.ndim == 1

        def mass(rows: Tensor) -> Tensor | int:
            return weights[rows].sum() if weighted and weights is not None else len(rows)

        whole = mass(truth)
        return lambda logits, rows: task.loss(logits, rows, weights, smoothing) * (mass(rows) / whole)

    def due(self, number: int) -> bool:
        """Whether it is time to look at the losses: at each step on a CPU, now and then on a GPU."""
        return self.engine.device.type == "cpu" or number == _PACE_STEPS or number % _LOOK == 0

    def settle(self, progress: checkpoint.Progress) -> None:
        """Move the pending losses to `progress`.

        Raises:
            BadPlan: for a loss that is not finite.
        """
        losses = torch.stack(self.pending).tolist() if self.pending else []
        self.pending.clear()
        for back, loss in zip(range(len(losses), 0, -1), losses, strict=True):
            if not math.isfinite(loss):
                raise BadPlan(
                    f"The training loss is {loss} at step {progress.step - back + 1} of {self.steps}.",
                    hint="Lower --learning-rate, or freeze BatchNorm with --batchnorm frozen.",
                )
        progress.losses.extend(losses)

    def save(self, file: Path, progress: checkpoint.Progress) -> float:
        """When a checkpoint was written: now."""
        self.settle(progress)
        progress.micro, progress.precision = self.engine.micro, str(self.engine.lower)
        checkpoint.save(file, progress, self.model.state_dict(), self.optimizer.state_dict())
        return time.monotonic()

    @property
    def looks(self) -> int | None:
        """How often the validation images are looked at; None: after each epoch."""
        return None if self.data.task.places is None else _LOOKS

    @property
    def alone(self) -> bool:
        """Whether the average is judged without the network: looks are dear, and it remembers little of the schedule."""
        if self.average is None or self.looks is None:
            return False
        return self.steps * (1 - self.average.decay) >= _MEMORIES

    def clock(self, progress: checkpoint.Progress, started: float) -> None:
        """Note the time since then."""
        progress.seconds = time.monotonic() - started
        progress.first = progress.first or progress.seconds

    def due_look(self, number: int) -> bool:
        """Whether the validation images are looked at after that step, the last one of an epoch."""
        return looks(number // self.per_epoch, self.steps // self.per_epoch, most=self.looks)

    def state(self) -> dict[str, Tensor]:
        """A copy of the network's tensors on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def validate(self) -> NDArray[np.float64]:
        """What is kept of the answers to the validation images (N, …), in the precision of training."""
        self.engine.network.eval()
        self.engine.twin.push()
        rows = []
        for batch in self.feed.validation():
            outputs = self.engine.logits(self.feed.inputs(batch.pixels))
            rows.append(rows_of(outputs, [self.data.val[place] for place in batch.positions], self.data))
        self.engine.twin.clear()
        return np.concatenate(rows)


def train(adapted: Adapted, data: TrainingData, pace: Pace) -> Generator[Event, None, FitResult]:
    """Events while the network trains, then the result: the network with the lowest validation loss.

    Ends at the last step, after `patience` epochs without a lower validation loss, or when the clock says so. A run
    that was killed goes on from its last checkpoint and ends with the same bits as one that was not.
    """
    file, name = pace.folder / checkpoint.CHECKPOINT, adapted.method.name
    began = time.monotonic()
    loop, progress = _open(adapted, data, pace)
    earlier, opening = progress.spent, time.monotonic() - began
    progress.opened += opening
    pace = replace(pace, planned=pace.planned - opening)  # storing a frozen part is the rung's own
    targets = data.task.targets(data.train, len(data.classes))
    resumed_at, saved = time.monotonic() - progress.seconds, time.monotonic()
    ended = ""
    if progress.step:
        reason = f"resumed at step {progress.step} of {loop.steps}"
        yield Event(event="note", rung=name, step=progress.step, reason=reason)
    while not ended and progress.step < loop.steps:
        epoch, done = divmod(progress.step, loop.per_epoch)
        loop.engine.network.train()
        for batch in loop.batches(epoch, done):
            if ended := pace.clock.over:
                break
            loop.step(progress.step, batch, loop.truth(batch, targets))
            progress.step += 1
            if not loop.due(progress.step):
                continue
            loop.settle(progress)
            loop.clock(progress, resumed_at)
            if not progress.steps and progress.step >= _PACE_STEPS:
                yield _resolve_steps(loop, progress, pace)
            yield from _tell(loop, progress)
            if time.monotonic() - saved > pace.every and progress.step % loop.per_epoch:
                saved = loop.save(file, progress)
        loop.settle(progress)
        if ended or loop.due_look(progress.step):
            yield _validate(loop, progress)
        loop.clock(progress, resumed_at)
        if progress.stale >= adapted.params.patience:
            ended = ended or f"no lower validation loss for {progress.stale} epochs"
        if not ended and time.monotonic() - saved > pace.every:
            saved = loop.save(file, progress)
    blended = (yield from _blended(loop, progress)) if not pace.clock.over else {}
    result = _finish(loop, progress, ended or "all epochs done", blended)
    result = replace(result, seconds=earlier + time.monotonic() - began)
    for left in pace.folder.glob(prefix.PATTERN):
        left.unlink()
    return result


def rows_of(outputs: Tensor, samples: Sequence[Sample], data: TrainingData) -> NDArray[np.float64]:
    """What is kept of the network's outputs for these samples."""
    return data.task.rows(outputs, samples, data.preprocess, len(data.classes))


def _open(adapted: Adapted, data: TrainingData, pace: Pace) -> tuple[Loop, checkpoint.Progress]:
    """The loop and where it stands: at a checkpoint, or at a prepared beginning."""
    params, device = adapted.params, compute.device()
    model = adapted.model.to(device).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(adapted)
    found, taken = checkpoint.load(pace.folder / checkpoint.CHECKPOINT), False
    if found is None:
        progress = checkpoint.Progress()
        if pace.before is not None and data.task.places is not None and not adapted.applied.restart:
            taken = take_heads(model, pace.before)
        if adapted.applied.reestimate:
            reestimate_norms(model, adapted.applied.reestimate, data)
        if params.head_start == "probe":
            start_head(adapted, data, pace)
        if params.head_start == "probe" or params.l2sp:
            progress.start = start_of(adapted)
        if params.ema:
            progress.average = start_of(adapted)
    else:
        progress, tensors, moments = found
        model.load_state_dict(tensors)
        optimizer.load_state_dict(moments)
    average = Average.of(model, progress.average, params.ema) if params.ema else None
    if average is not None:
        progress.average = average.values  # changed in place, so every checkpoint has it as it is
    engine, feed = _engine(adapted, data, pace, progress)
    if taken:
        engine.notes.append("pyramid and heads go on from those of the rung before")
    weights = weights_of(params.class_weights, data)
    per_epoch = len(epoch_groups(len(data.train), params.batch_size, seed=data.seed, epoch=0))
    loop = Loop(
        adapted=adapted,
        data=data,
        engine=engine,
        feed=feed,
        optimizer=optimizer,
        weights=None if weights is None else torch.tensor(weights, dtype=torch.float32, device=device),
        per_epoch=per_epoch,
        steps=progress.steps or per_epoch * params.epochs,
        anchor=Anchor.of(model, progress.start, params.l2sp) if params.l2sp else None,
        average=average,
    )
    return loop, progress


def _engine(
    adapted: Adapted, data: TrainingData, pace: Pace, progress: checkpoint.Progress
) -> tuple[Engine, Feed]:
    """What computes a step, and what feeds it: images, or a frozen prefix's activations."""
    applied, params, device = adapted.applied, adapted.params, compute.device()
    lower = torch.bfloat16 if native_bfloat16(device) else None
    if progress.precision:
        lower = None if progress.precision == "None" else torch.bfloat16
    moving = any(group.buffers_may_move for group in applied.groups) and not applied.reestimate
    micro = default_micro(device, params.batch_size, moving=moving, stored=False)
    twin = twin_of(adapted.model, (data.preprocess.height, data.preprocess.width))
    engine = Engine(twin=twin, device=device, lower=lower, micro=micro, moving=moving)
    views = min(params.views, params.epochs) if applied.boundary else None
    pixels = Pixels(data=data, augment=params.augment, flip=params.flip, views=views, device=device)
    cut = None
    if views is not None:
        frozen = [group for group in applied.groups if not group.trains]
        names = tuple(name for group in frozen for name in (*group.parameters, *group.buffers))
        boundary = prefix.Boundary(name=applied.boundary, frozen=names, views=views, folder=pace.folder)
        cut = prefix.split(engine, pixels, boundary, pace.clock)
    micro = progress.micro or default_micro(device, params.batch_size, moving=moving, stored=cut is not None)
    engine, feed = cut or (engine, pixels)

    def operations() -> float:
        count: int = len(data.train) * params.epochs
        return float(count * compute.flops(adapted.model, data.preprocess))

    call = None
    if pays(params.compiled, device, operations=operations):
        call = Compiled(engine.network, engine.notes)
    return replace(engine, micro=micro, call=call), feed


def _tell(loop: Loop, progress: checkpoint.Progress) -> Iterator[Event]:
    """What the engine noted, and the step."""
    name, epoch = loop.adapted.method.name, progress.step / loop.per_epoch
    while loop.engine.notes:
        yield Event(event="note", rung=name, epoch=epoch, step=progress.step, reason=loop.engine.notes.pop(0))
    yield Event(event="step", rung=name, epoch=epoch, step=progress.step, loss=progress.losses[-1])


def _resolve_steps(loop: Loop, progress: checkpoint.Progress, pace: Pace) -> Event:
    """Shorten the schedule to the whole epochs that the budget allows at the measured pace, once and for all."""
    data = loop.data
    passes = 1 if loop.average is None or loop.alone else 2  # over the validation images
    step_seconds = progress.seconds / progress.step
    if loop.looks is not None and progress.step > 1:
        step_seconds = (progress.seconds - progress.first) / (progress.step - 1)
    plain = step_seconds * loop.per_epoch
    look = passes * _FORWARD_SHARE * len(data.val) / max(1, len(data.train)) * plain
    planned, epoch_seconds = loop.steps // loop.per_epoch, plain + look
    left = _SAFETY * min(pace.clock.left, pace.planned)
    fitting = planned if math.isinf(left) else int(left / epoch_seconds)
    if loop.looks is not None and not math.isinf(left):
        fitting = max(fitting, int((left - (loop.looks + 1) * look) / plain))
        epoch_seconds = plain
    loop.steps = progress.steps = loop.per_epoch * max(1, min(planned, fitting))
    reason = f"{epoch_seconds:.0f} s an epoch: {loop.steps // loop.per_epoch} of {planned} epochs planned"
    return Event(
        event="note",
        rung=loop.adapted.method.name,
        step=progress.step,
        seconds=progress.spent,
        reason=reason,
    )


def _validate(loop: Loop, progress: checkpoint.Progress) -> Event:
    """How the network does now, and its running average where there is one; the better of the two may be the best so far."""
    own, targets = loop.state(), loop.data.task.targets(loop.data.val, len(loop.data.classes))
    averaged = None if loop.average is None else loop.average.over(own)
    tried = []
    for state in [*([] if loop.alone else [own]), *([] if averaged is None else [averaged])]:
        if state is averaged:
            loop.model.load_state_dict(state)
        logits = loop.validate()
        tried.append((loop.data.task.judge(logits, targets), logits, state))
    loop.model.load_state_dict(own)
    loss, logits, state = min(tried, key=lambda each: each[0])
    if loss < progress.best_loss:
        progress.best, progress.best_loss, progress.best_step, progress.stale = state, loss, progress.step, 0
        progress.best_averaged = state is averaged
    else:
        progress.stale = (progress.step - progress.best_step) // loop.per_epoch
    trained = float(np.mean(progress.losses)) if progress.losses else None
    told = judged(loop.data, logits, targets)
    progress.losses.clear()
    return Event(
        event="validation",
        rung=loop.adapted.method.name,
        epoch=progress.step / loop.per_epoch,
        step=progress.step,
        loss=trained,
        lr=loop.optimizer.param_groups[-1]["lr"],
        metrics=told.metrics | {loop.data.task.judged_by: loss},
        intervals=told.intervals,
        seconds=progress.spent,
        reason="of the averaged weights" if state is averaged else "",
    )


def _blended(loop: Loop, progress: checkpoint.Progress) -> Generator[Event, None, dict[str, object]]:
    """Go back towards the start as far as the validation images want, where there is one; tells of it, returns the facts."""
    if loop.adapted.params.head_start != "probe" or not progress.start:
        return {}
    targets = loop.data.task.targets(loop.data.val, len(loop.data.classes))
    losses = {}
    for share in SHARES:
        loop.model.load_state_dict(between(progress.start, progress.best, share))
        losses[share] = calibrated_losses(loop.validate(), targets)
    chosen = best_share(losses)
    progress.best = between(progress.start, progress.best, chosen)
    means = {share: float(each.mean()) for share, each in losses.items()}
    reason = (
        f"weights {chosen:.0%} of the way from the start to the best epoch: validation log-loss "
        f"{told_mean(losses[chosen])} after calibration, {told_mean(losses[1.0])} at the end of the way"
    )
    yield Event(event="note", rung=loop.adapted.method.name, step=progress.step, reason=reason)
    return {"blend": chosen, "blend_losses": {f"{share:g}": mean for share, mean in means.items()}}


def _finish(loop: Loop, progress: checkpoint.Progress, ended: str, blended: dict[str, object]) -> FitResult:
    loop.model.load_state_dict(progress.best)
    data = loop.data
    logits = compute.forward(
        loop.model,
        data.val,
        data.preprocess,
        label="validating",
        keep=lambda outputs, samples: rows_of(outputs, samples, data),
    )
    targets = data.task.targets(data.val, len(data.classes))
    found = calibrate(data, logits, targets, model=loop.model)
    fold_into(loop.model, found)
    return FitResult(
        method=loop.adapted.method.name,
        model=loop.model.cpu().eval(),
        val_logits=found.apart(logits, np.arange(len(logits))),
        temperature=found.temperature,
        classwise=found.classwise,
        seconds=progress.spent,
        ended=ended,
        facts={
            "steps": progress.step,
            "best_step": progress.best_step,
            "best_epoch": progress.best_step / loop.per_epoch,
            "precision": "bfloat16" if loop.engine.lower else "float32",
            "micro_batch": loop.engine.micro,
            "folded_norms": len(loop.engine.twin.pairs),
            "stored_prefix": isinstance(loop.feed, prefix.Stored),
            **({"averaged": progress.best_averaged} if loop.average is not None else {}),
            **blended,
        },
    )
