"""Tasks: how labels become targets, what is minimised, and how logits become answers. One file per task."""

from headstart._core.table import Table
from headstart.tasks import classify, multilabel
from headstart.tasks.model import Classifier, Mirrored, Turned, unmirrored
from headstart.tasks.records import Task
from headstart.tasks.watched import Watched

TASKS: Table[Task] = Table("--task", {task.name: task for task in (classify.TASK, multilabel.TASK)})

__all__ = ["TASKS", "Classifier", "Mirrored", "Task", "Turned", "Watched", "unmirrored"]
