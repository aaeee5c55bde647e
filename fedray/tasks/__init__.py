"""Tasks: the meaning of what a model gives for an example, its loss, and the metrics that its readers expect."""

from fedray.tasks.base import Answers, Ranking, Task, TaskLoss, tasks
from fedray.tasks.binary import Binary, Multilabel
from fedray.tasks.classification import Classification, OneOfClasses
from fedray.tasks.inferred import infer, inferred, task_of
from fedray.tasks.language import CausalLM, NextTokens, Seq2SeqLM
from fedray.tasks.outputs import logits_of, outputs_of
from fedray.tasks.positions import Positions, Segmentation, TokenClassification
from fedray.tasks.regression import Regression
from fedray.tasks.span import Span
from fedray.tasks.unsupervised import Unsupervised

__all__ = [
    "Answers",
    "Binary",
    "CausalLM",
    "Classification",
    "Multilabel",
    "NextTokens",
    "OneOfClasses",
    "Positions",
    "Ranking",
    "Regression",
    "Segmentation",
    "Seq2SeqLM",
    "Span",
    "Task",
    "TaskLoss",
    "TokenClassification",
    "Unsupervised",
    "infer",
    "inferred",
    "logits_of",
    "outputs_of",
    "task_of",
    "tasks",
]
