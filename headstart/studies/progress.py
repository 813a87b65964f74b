"""A study on its way: which training is next, at which rate, what is done, and how long the rest takes."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from headstart._core import log
from headstart._core.clock import Clock
from headstart._core.errors import BadInput
from headstart.metrics import told_share
from headstart.reporting.wording import duration
from headstart.runs.fit import Interrupted
from headstart.studies.arm import Ground, can_answer, drop_network, forget, is_done, train
from headstart.studies.grid import Slot, Work, beyond, plan_lines, reach, searched, slots, total
from headstart.studies.records import Grid, Job, Settings, Trained


class Finals(NamedTuple):
    """The trainings that stand for each arm in a cell: arm -> one for each seed."""

    fraction: float
    schedule: int
    slots: dict[str, list[Slot]]


@dataclass
class Running:
    """A study on its way. Mutable on purpose: `trained` is what it has so far."""

    ground: Ground
    settings: Settings
    grid: Grid
    clock: Clock
    work: Work
    trained: dict[Slot, Trained] = field(default_factory=dict)

    def job(self, slot: Slot, factor: float | None = None) -> Job:
        """The training of a slot; its rate is the slot's own, the one given, or the one that was chosen."""
        rate = factor if factor is not None else slot.factor
        if rate is None:
            schedule = slot.schedule if searched(self.grid, slot.schedule) else self.grid.schedules[0]
            rate = self.best(slot.arm, slot.fraction, schedule).job.factor
        return Job(
            arm=slot.arm,
            fraction=slot.fraction,
            schedule=slot.schedule,
            factor=rate,
            seed=slot.seed,
            images=self.work.images[slot.fraction],
            epochs=self.settings.epochs * slot.schedule,
        )

    def tried(self, arm: str, fraction: float, schedule: int) -> list[Trained]:
        """The trainings of a search, by rising rate."""
        wanted = [Slot(arm, fraction, schedule, factor, self.grid.seeds[0]) for factor in reach(self.grid)]
        return [self.trained[slot] for slot in wanted if slot in self.trained]

    def _listed(self, arm: str, fraction: float, schedule: int) -> bool:
        """Whether a search has tried all rates of the list."""
        seed = self.grid.seeds[0]
        return all(Slot(arm, fraction, schedule, rate, seed) in self.trained for rate in self.grid.rates)

    def _wider(self, slot: Slot) -> Slot | None:
        """The training that a search goes on with behind this one, beyond the rates of the list; None: it is over."""
        own = (slot.arm, slot.fraction, slot.schedule)
        if slot.factor is None or not self._listed(*own):
            return None
        tried = self.tried(*own)
        if all(each.validation is None for each in tried):
            return None  # whatever rests on this search says so
        factor = beyond(self.grid, [each.job.factor for each in tried], self.best(*own).job.factor)
        return None if factor is None else Slot(*own, factor, slot.seed)

    def best(self, arm: str, fraction: float, schedule: int) -> Trained:
        """Of a search, the training with the highest primary metric on the validation images; of equal ones the best judged.

        Raises:
            BadInput: where no rate led to a network.
        """
        found = [each for each in self.tried(arm, fraction, schedule) if each.validation is not None]
        if not found:
            raise BadInput(
                f"No learning rate of {arm} with {fraction:.0%} of the images led to a loss that is a number.",
                hint="Give lower --rates in another folder (--out).",
            )
        return max(found, key=lambda each: (each.validation or 0.0, -(each.judged or 0.0)))

    def finals(self, arm: str, fraction: float, schedule: int) -> list[Slot]:
        """The trainings that stand for an arm in a cell, one for each seed; empty while any is missing."""
        first, *others = self.grid.seeds
        if searched(self.grid, schedule):
            if not self._listed(arm, fraction, schedule):
                return []
            factor: float | None = self.best(arm, fraction, schedule).job.factor
        else:
            factor = None
        wanted = [Slot(arm, fraction, schedule, factor, first)]
        wanted += [Slot(arm, fraction, schedule, None, seed) for seed in others]
        return wanted if all(slot in self.trained for slot in wanted) else []

    def train_all(self) -> str:
        """Why trainings were left, or an empty string.

        Raises:
            Interrupted: when somebody asked to stop.
        """
        every = slots(self.grid, self.ground.study.arms)
        known = {slot for slot in every if self._known(slot)}
        for line in _plan_words(self, known):
            log.say(line)
        started, expected, left, done = time.monotonic(), 0.0, deque(every), 0
        while left:
            slot = left.popleft()
            job, count = self.job(slot), done + 1 + len(left)
            new = not is_done(self.ground, job)
            if new and self.clock.over and not self.clock.stop_reason:
                open_ = sum(each not in known for each in (slot, *left))
                return f"{open_} of {count} trainings were not begun: {self.clock.over}"
            found = train(self.ground, self.settings, job, self.clock)
            if found is None or self.clock.stop_reason:
                raise Interrupted(
                    f"Stopped by {self.clock.stop_reason}: {done} of {count} trainings are done.",
                    hint="The same command goes on from here.",
                )
            self.trained[slot] = found
            done += 1
            if (wider := self._wider(slot)) is not None:
                left.appendleft(wider)
            if new:
                expected += self._seconds([slot])
                pace = (time.monotonic() - started) / expected
                rest = self._seconds([each for each in left if each not in known])
                place = f"{done} of {done + len(left)}"
                log.say(_told(found, self.settings, place, left=pace * rest, val=self.work.val))
        return ""

    def _seconds(self, found: list[Slot]) -> float:
        return total(found, self.work, self.settings.epochs)

    def complete(self) -> list[Finals]:
        """The cells in which no arm misses a training."""
        out = []
        for fraction in self.grid.fractions:
            for schedule in self.grid.schedules:
                finals = {
                    arm.name: self.finals(arm.name, fraction, schedule) for arm in self.ground.study.arms
                }
                if all(finals.values()):
                    out.append(Finals(fraction, schedule, finals))
        return out

    def make_answerable(self, complete: list[Finals]) -> None:
        """Train anew what stands for an arm and has lost its network: a grid that has changed may choose another one."""
        for slot in [slot for cell in complete for arm in cell.slots.values() for slot in arm]:
            job = self.trained[slot].job
            if not can_answer(self.ground, job):
                forget(self.ground, job)
                self.trained[slot] = train(self.ground, self.settings, job, self.clock) or self.trained[slot]

    def tidy(self, complete: list[Finals]) -> None:
        """Remove the networks of rates that were not chosen; they are most of what a study takes on the disk."""
        for cell in complete:
            for arm, finals in cell.slots.items():
                chosen = {self.trained[slot].job for slot in finals}
                for each in self.tried(arm, cell.fraction, cell.schedule):
                    if each.job not in chosen:
                        drop_network(self.ground, each.job)

    def _known(self, slot: Slot) -> bool:
        """Whether a training is done already, as far as that can be known before its rate is chosen."""
        factors = reach(self.grid) if slot.factor is None else (slot.factor,)
        return any(is_done(self.ground, self.job(slot, factor)) for factor in factors)


def _plan_words(running: Running, known: set[Slot]) -> list[str]:
    """The plan, and what is the same for all arms and what is not, in lines."""
    settings, grid, study = running.settings, running.grid, running.ground.study
    lines = plan_lines(
        grid, study.arms, running.work, epochs=settings.epochs, done=lambda slot: slot in known
    )
    width, height = settings.frame
    mirrored = "mirrored or not" if settings.flip else "never mirrored"
    alike = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.shared.items())
    lines.append(
        f"alike for all: batch {settings.batch_size}, augmentation {settings.augment}, {mirrored}, "
        f"{width} x {height} px, {alike}"
    )
    for arm in study.arms:
        rates = ", ".join(f"{settings.usual[arm.name] * factor:.2g}" for factor in grid.rates)
        own = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.own[arm.name].items())
        lines.append(f"{arm.name}: rates {rates}; {own}")
    return lines


def _told(found: Trained, settings: Settings, place: str, *, left: float, val: int) -> str:
    """How a training ended, with the 95 % interval of what `val` validation images say, and how long the others take."""
    job = found.job
    said = "loss is no number"
    if found.validation is not None:
        said = f"validation {told_share(found.validation, val)}"
    rest = f"; about {duration(left)} left".replace("\u00a0", " ") if left > 0 else ""
    return (
        f"[{place}] {job.arm}, {job.images} images, {job.schedule}x, rate {settings.usual[job.arm] * job.factor:.2g}: "
        f"{said}, {duration(found.seconds)}{rest}".replace("\u00a0", " ")
    )
