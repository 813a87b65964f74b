"""The solver `gradient`: one visible loop, steps only."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from headstart import compute
from headstart._core.errors import BadPlan
from headstart._core.seed import derive, generator
from headstart.adaptation import Adapted
from headstart.data.images import open_rgb
from headstart.data.records import Sample
from headstart.metrics import fit_temperature
from headstart.pixels import PRESETS, augmented_pixels, batches, contract_pixels, in_order, normalise
from headstart.tasks import Classifier
from headstart.training import checkpoint
from headstart.training.class_weights import class_weights
from headstart.training.probe import choose_strength, fit_head, row_losses
from headstart.training.records import Event, FitResult, Pace, TrainingData
from headstart.training.solve import label_counts, probe_problem, set_head

_MOMENTUM = 0.9
_CLIP = 1.0  # largest norm of the gradient: one bad batch must not undo pretraining
_PROBE_FOLDS = 5
_PACE_STEPS = 3  # the first step is slow (allocation, threads); the mean of three is a careful guess
_FORWARD_SHARE = 0.35  # a forward pass costs about a third of a training step
_SAFETY = 0.9


def make_optimizer(adapted: Adapted) -> Optimizer:
    """The optimiser with one parameter group for each group of the ledger (and decay only on matrices and kernels)."""
    model, groups = adapted.model, []
    for group in adapted.applied.groups:
        if not group.trains:
            continue
        tensors = [model.get_parameter(name) for name in group.parameters]
        for decays, part in (
            (True, [t for t in tensors if t.ndim > 1]),
            (False, [t for t in tensors if t.ndim <= 1]),
        ):
            if part:
                decay = group.weight_decay if decays else 0.0
                groups.append({"params": part, "lr": group.lr, "peak": group.lr, "weight_decay": decay})
    if adapted.params.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=_MOMENTUM, nesterov=True)
    return torch.optim.AdamW(groups)


def rate(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step: a linear rise over `warmup` of all steps, then a cosine to zero.

    >>> rate(0, 100, 0.1), rate(9, 100, 0.1), round(rate(55, 100, 0.1), 2), rate(100, 100, 0.1)
    (0.1, 1.0, 0.5, 0.0)
    """
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def epoch_groups(count: int, batch_size: int, *, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Positions of each batch of an epoch: shuffled by seed and epoch; a last batch of one image joins the one before."""
    order = generator(seed, "order", epoch).permutation(count)
    groups = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    if len(groups) > 1 and len(groups[-1]) == 1:  # one image has no batch statistics
        groups[-2:] = [np.concatenate(groups[-2:])]
    return groups


@dataclass
class Loop:
    """What one training run holds in its hands: the live objects that the loop's steps share."""

    adapted: Adapted
    data: TrainingData
    accelerator: Accelerator
    model: Classifier
    optimizer: Optimizer
    weights: Tensor | None
    per_epoch: int
    steps: int

    def batches(self, epoch: int, skip: int) -> Any:
        """The augmented batches of an epoch after the first `skip`, each image's chances from seed, epoch and position."""
        params, data = self.adapted.params, self.data
        preset = PRESETS[params.augment]

        def load(position: int, sample: Sample) -> NDArray[np.uint8]:
            rng = generator(data.seed, "augment", epoch, position)
            return augmented_pixels(
                open_rgb(sample.source), data.preprocess, augment=preset, flip=params.flip, rng=rng
            )

        groups = epoch_groups(len(data.train), params.batch_size, seed=data.seed, epoch=epoch)
        return batches(data.train, load, groups=[group.tolist() for group in groups[skip:]])

    def step(self, number: int, pixels: Tensor, targets: Tensor) -> float:
        """The loss of one optimiser step."""
        torch.manual_seed(derive(self.data.seed, "step", number))  # dropout and drop-path
        share = rate(number, self.steps, self.adapted.params.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        images = normalise(pixels.to(self.accelerator.device), self.data.preprocess)
        with self.accelerator.autocast():
            logits = self.model(images.contiguous(memory_format=torch.channels_last))
            truth = targets.to(self.accelerator.device)
            loss = self.data.task.loss(
                logits.float(), truth, self.weights, self.adapted.params.label_smoothing
            )
        if not torch.isfinite(loss):
            raise BadPlan(
                f"The training loss is {loss.item()} at step {number + 1} of {self.steps}.",
                hint="Lower --learning-rate, or freeze BatchNorm with --batchnorm frozen.",
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), _CLIP)
        self.optimizer.step()
        return float(loss.item())

    def state(self) -> dict[str, Tensor]:
        """A copy of the network's tensors on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def validate(self) -> NDArray[np.float64]:
        """Logits (N, classes) of the validation images."""
        out = compute.forward(self.model, self.data.val, self.data.preprocess, label="validating")
        return out.astype(np.float64)


def _start(adapted: Adapted, data: TrainingData) -> Loop:
    params = adapted.params
    accelerator = Accelerator(mixed_precision="bf16" if torch.cuda.is_available() else "no")
    model = adapted.model.to(accelerator.device).to(memory_format=torch.channels_last)
    targets = data.task.targets(data.train, len(data.classes))
    weights = class_weights(params.class_weights, data.classes, label_counts(data, targets))
    per_epoch = len(epoch_groups(len(data.train), params.batch_size, seed=data.seed, epoch=0))
    return Loop(
        adapted=adapted,
        data=data,
        accelerator=accelerator,
        model=model,
        optimizer=make_optimizer(adapted),
        weights=None
        if weights is None
        else torch.tensor(weights, dtype=torch.float32, device=accelerator.device),
        per_epoch=per_epoch,
        steps=per_epoch * params.epochs,
    )


def start_head(adapted: Adapted, data: TrainingData, pace: Pace) -> None:
    """Put the linear probe's head into the network, found on the training images alone.

    Source: Kumar et al. 2022, fine-tuning can distort pretrained features (LP-FT).
    """
    problem = probe_problem(data, adapted.params.class_weights, pace)
    path = choose_strength(problem, count=_PROBE_FOLDS, seed=data.seed)
    set_head(adapted.model, fit_head(problem, strength=path.best))


def reestimate_norms(model: Classifier, names: Sequence[str], data: TrainingData) -> None:
    """Replace the running statistics of the named BatchNorm layers by those of the training images, un-augmented."""
    layers = [model.get_submodule(name) for name in names]
    kept = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()  # type: ignore[operator]  # BatchNorm's method
        layer.momentum = None  # type: ignore[assignment]  # a cumulative average over all batches
        layer.train()
    stream = batches(
        data.train,
        lambda _, sample: contract_pixels(open_rgb(sample.source), data.preprocess),
        groups=in_order(len(data.train), compute.BATCH),
    )
    with torch.no_grad():
        for batch in stream:
            images = normalise(batch.pixels.to(next(model.parameters()).device), data.preprocess)
            model(images.contiguous(memory_format=torch.channels_last))
    for layer, momentum in zip(layers, kept, strict=True):
        layer.momentum = momentum
    model.eval()


def train(adapted: Adapted, data: TrainingData, pace: Pace) -> Generator[Event, None, FitResult]:
    """Events while the network trains, then the result: the network with the lowest validation loss.

    Ends at the last step, after `patience` epochs without a lower validation loss, or when the clock says so. A run
    that was killed goes on from its last checkpoint and ends with the same bits as one that was not.
    """
    loop = _start(adapted, data)
    file = pace.folder / checkpoint.CHECKPOINT
    progress = _restore(loop, file) or _prepare(loop, pace)
    targets = torch.from_numpy(data.task.targets(data.train, len(data.classes)))
    resumed_at, saved, name = time.monotonic() - progress.seconds, time.monotonic(), adapted.method.name
    ended = ""
    if progress.step:
        yield Event(
            event="note",
            rung=name,
            step=progress.step,
            reason=f"resumed at step {progress.step} of {loop.steps}",
        )
    while not ended and progress.step < loop.steps:
        epoch, done = divmod(progress.step, loop.per_epoch)
        loop.model.train()
        for batch in loop.batches(epoch, done):
            if ended := pace.clock.over:
                break
            progress.losses.append(loop.step(progress.step, batch.pixels, targets[list(batch.positions)]))
            progress.step += 1
            progress.seconds = time.monotonic() - resumed_at
            if not progress.steps and progress.step >= _PACE_STEPS:
                yield _resolve_steps(loop, progress, pace)
            yield Event(
                event="step",
                rung=name,
                epoch=progress.step / loop.per_epoch,
                step=progress.step,
                loss=progress.losses[-1],
            )
            if time.monotonic() - saved > pace.every and progress.step % loop.per_epoch:
                checkpoint.save(file, progress, loop.model.state_dict(), loop.optimizer.state_dict())
                saved = time.monotonic()
        event = _validate(loop, progress)
        progress.seconds = time.monotonic() - resumed_at
        yield event
        if progress.stale >= adapted.params.patience:
            ended = ended or f"no lower validation loss for {progress.stale} epochs"
        if not ended and time.monotonic() - saved > pace.every:
            checkpoint.save(file, progress, loop.model.state_dict(), loop.optimizer.state_dict())
            saved = time.monotonic()
    return _finish(loop, progress, ended or "all epochs done")


def _resolve_steps(loop: Loop, progress: checkpoint.Progress, pace: Pace) -> Event:
    """Shorten the schedule to the whole epochs that the budget allows at the measured pace, once and for all."""
    data = loop.data
    validation = _FORWARD_SHARE * len(data.val) / max(1, len(data.train))
    epoch_seconds = progress.seconds / progress.step * loop.per_epoch * (1 + validation)
    planned = loop.steps // loop.per_epoch
    fitting = planned if math.isinf(pace.clock.left) else int(_SAFETY * pace.clock.left / epoch_seconds)
    loop.steps = progress.steps = loop.per_epoch * max(1, min(planned, fitting))
    reason = f"{epoch_seconds:.0f} s an epoch: {loop.steps // loop.per_epoch} of {planned} epochs planned"
    return Event(
        event="note",
        rung=loop.adapted.method.name,
        step=progress.step,
        seconds=progress.seconds,
        reason=reason,
    )


def _prepare(loop: Loop, pace: Pace) -> checkpoint.Progress:
    """What happens once before the first step."""
    if loop.adapted.applied.reestimate:
        reestimate_norms(loop.model, loop.adapted.applied.reestimate, loop.data)
    if loop.adapted.params.head_start == "probe":
        start_head(loop.adapted, loop.data, pace)
    return checkpoint.Progress()


def _restore(loop: Loop, file: Any) -> checkpoint.Progress | None:
    found = checkpoint.load(file)
    if found is None:
        return None
    progress, model, optimizer = found
    loop.steps = progress.steps or loop.steps
    loop.model.load_state_dict(model)
    loop.optimizer.load_state_dict(optimizer)
    return progress


def _validate(loop: Loop, progress: checkpoint.Progress) -> Event:
    logits = loop.validate()
    targets = loop.data.task.targets(loop.data.val, len(loop.data.classes))
    loss = float(row_losses(logits, targets).mean())
    if loss < progress.best_loss:
        progress.best, progress.best_loss, progress.best_step, progress.stale = (
            loop.state(),
            loss,
            progress.step,
            0,
        )
    else:
        progress.stale += 1
    trained = float(np.mean(progress.losses)) if progress.losses else None
    progress.losses.clear()
    return Event(
        event="validation",
        rung=loop.adapted.method.name,
        epoch=progress.step / loop.per_epoch,
        step=progress.step,
        loss=trained,
        lr=loop.optimizer.param_groups[-1]["lr"],
        metrics={
            loop.data.task.primary: float(loop.data.task.correctness(logits, targets).mean()),
            "log_loss": loss,
        },
        seconds=progress.seconds,
    )


def _finish(loop: Loop, progress: checkpoint.Progress, ended: str) -> FitResult:
    loop.model.load_state_dict(progress.best)
    logits = loop.validate()
    targets = loop.data.task.targets(loop.data.val, len(loop.data.classes))
    return FitResult(
        method=loop.adapted.method.name,
        model=loop.model.cpu().eval(),
        val_logits=logits,
        temperature=fit_temperature(logits, targets),
        seconds=progress.seconds,
        ended=ended,
        facts={
            "steps": progress.step,
            "best_step": progress.best_step,
            "best_epoch": progress.best_step / loop.per_epoch,
        },
    )
