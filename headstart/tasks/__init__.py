"""Tasks: how labels become targets, what is minimised, and how logits become answers. One file per task."""

from headstart._core.table import Table
from headstart.tasks import classify, detect, multilabel, segment
from headstart.tasks.model import Classifier, Mirrored, Network, Turned, unmirrored
from headstart.tasks.records import Places, Task
from headstart.tasks.watched import Watched

TASKS: Table[Task] = Table(
    "--task", {task.name: task for task in (classify.TASK, multilabel.TASK, detect.TASK, segment.TASK)}
)

__all__ = ["TASKS", "Classifier", "Mirrored", "Network", "Places", "Task", "Turned", "Watched", "unmirrored"]
