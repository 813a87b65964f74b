"""Tasks: how labels become targets, what is minimised, and how logits become answers. One file per task, one per head."""

from collections.abc import Callable
from typing import Any

from headstart._core.check import one_of
from headstart._core.errors import BadOption
from headstart._core.records import from_plain
from headstart._core.table import Table
from headstart.tasks import (
    classify,
    deeplab,
    detect,
    faster_rcnn,
    fcos,
    fpn,
    linear,
    multilabel,
    retinanet,
    segment,
    summed,
    unet,
)
from headstart.tasks.heads import Head, HeadSpec, check_package
from headstart.tasks.model import Classifier, Mirrored, Network, Turned, unmirrored
from headstart.tasks.records import Places, Task
from headstart.tasks.watched import Watched

HEADS: Table[Head] = Table(
    "--head",
    {
        head.name: head
        for head in (
            linear.HEAD,
            fcos.HEAD,
            retinanet.HEAD,
            faster_rcnn.HEAD,
            summed.HEAD,
            unet.HEAD,
            fpn.HEAD,
            deeplab.HEAD,
        )
    },
)

_MADE: dict[str, Callable[[Head, Any], Task]] = {
    "classify": classify.made,
    "multilabel": multilabel.made,
    "detect": detect.made,
    "segment": segment.made,
}


def heads_of(task: str) -> tuple[str, ...]:
    """Names of the heads that are for a task, its usual one first."""
    return tuple(name for name, head in HEADS.items() if task in head.tasks)


def head_of(task: str, name: str = "") -> Head:
    """The head of that name for a task; without a name the task's usual one.

    Raises:
        BadOption: for a name that is not in `HEADS`, or not a head of this task.
        MissingPackage: when what it is built from is not installed.
    """
    names = heads_of(task)
    head = HEADS[name or names[0]]
    if task not in head.tasks:
        raise BadOption(
            f"--head {name} is not made for the task {task}.", hint=f"Heads that are: {', '.join(names)}."
        )
    check_package(head)
    return head


def task_of(name: str, spec: HeadSpec) -> Task:
    """The task with that head, as a plan or a bundle names it.

    Raises:
        BadOption: for an unknown task, and for a head that is not one of it.
        BadInput: for settings that the head has not.
    """
    one_of("--task", name, _MADE)
    head = head_of(name, spec.name)
    return _MADE[name](head, from_plain(head.settings, spec.settings, where=f"The head {head.name!r}"))


def _usual(name: str) -> Task:
    head = HEADS[heads_of(name)[0]]
    return _MADE[name](head, head.settings())


TASKS: Table[Task] = Table("--task", {name: _usual(name) for name in _MADE})

__all__ = [
    "HEADS",
    "TASKS",
    "Classifier",
    "Head",
    "HeadSpec",
    "Mirrored",
    "Network",
    "Places",
    "Task",
    "Turned",
    "Watched",
    "head_of",
    "heads_of",
    "task_of",
    "unmirrored",
]
