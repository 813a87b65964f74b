"""What a head is: what stands on a backbone's maps, what its outputs cost, and how boxes are read out of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from headstart._core.errors import BadPlan, MissingPackage
from headstart._core.records import record
from headstart.data.preprocess import Preprocess
from headstart.data.records import DatasetFacts
from headstart.tasks.model import Network
from headstart.weights import Backbone

Decode = Callable[[Tensor, Preprocess], tuple[Tensor, Tensor]]
"""(outputs, contract) -> scores (N, places, classes) in [0, 1] and boxes (N, places, 4) in pixels of the letterbox."""


@record
class HeadSpec:
    """Which head a network has, as plans and bundles hold it.

    Attributes:
        name: of `HEADS`; empty, as in files from before there was a choice: the task's usual one.
        settings: what was fitted to the data for it, the fields of the head's own record.
    """

    name: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@record
class Plain:
    """The settings of a head that has nothing to fit to the data."""


def nothing(facts: DatasetFacts, frame: tuple[int, int]) -> tuple[Plain, str]:
    """No settings, and no reason for any."""
    del facts, frame
    return Plain(), ""


@dataclass(frozen=True)
class Head:
    """A row of `HEADS`.

    Attributes:
        name: what the user types after `--head`.
        tasks: names of the tasks that it is for; the first row that names a task is that task's usual head.
        summary: what it is, in a clause for plan and report.
        source: the paper.
        licence: of the code that it is built from, with the package.
        build: (backbone, classes, settings) -> the network; the backbone's module becomes its body and may be changed.
        settings: the record of what is fitted to the data.
        fit: (facts, (width, height) of the letterbox) -> settings, and why.
        loss: (outputs, truth, settings) -> mean loss, of heads for boxes; truth is (boxes (M, 6), (height, width) of the
            letterbox) of each image. Other heads give logits, whose loss is the task's.
        decoded: (outputs, contract, settings) -> scores and boxes, as in `Decode`; of heads for boxes.
        package: import name of an optional package that it is built from; empty: none.
    """

    name: str
    tasks: tuple[str, ...]
    summary: str
    source: str
    licence: str
    build: Callable[[Backbone, int, Any], Network]
    settings: type[Any] = Plain
    fit: Callable[[DatasetFacts, tuple[int, int]], tuple[Any, str]] = nothing
    loss: Callable[[Tensor, Any, Any], Tensor] = lambda *_: _no_boxes()
    decoded: Callable[[Tensor, Preprocess, Any], tuple[Tensor, Tensor]] = lambda *_: _no_boxes()
    package: str = ""

    def on(self, settings: Any) -> Callable[[Backbone, int], Network]:
        """(backbone, classes) -> the network with these settings."""
        return lambda backbone, classes: self.build(backbone, classes, settings)

    def spec(self, settings: Any) -> HeadSpec:
        """The head with these settings, as plans and bundles hold it."""
        return HeadSpec(name=self.name, settings=asdict(settings))


def check_package(head: Head) -> None:
    """Nothing, if what the head is built from is installed.

    Raises:
        MissingPackage: where it is not.
    """
    if head.package and find_spec(head.package) is None:
        raise MissingPackage(head.package, needed_for=f"--head {head.name}", extra="heads")


def _no_boxes() -> Any:
    raise BadPlan(
        "A head without boxes was asked for boxes.",
        hint="This is a defect of headstart: please report it.",
    )
