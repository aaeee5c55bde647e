"""Tasks: what the output of a model says of an example."""

from fedray.tasks.base import Answers, Ranking, Task
from fedray.tasks.classification import Classification
from fedray.tasks.inferred import inferred, task_of
from fedray.tasks.regression import Regression

__all__ = ["Answers", "Classification", "Ranking", "Regression", "Task", "inferred", "task_of"]
