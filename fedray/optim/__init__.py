"""Optimizers: SGD, Adam, AdamW, RMSprop, Adagrad; and schedules of their learning rate."""

from fedray.optim.base import ELEMENTWISE, OptimizerFn, TorchOptimizer, optimizers
from fedray.optim.by_name import SGD, Adagrad, Adam, AdamW, RMSprop
from fedray.optim.schedules import Constant, Cosine, Exponential, Linear, LRSchedule, Step, lr_schedules

__all__ = [
    "ELEMENTWISE",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Exponential",
    "LRSchedule",
    "Linear",
    "OptimizerFn",
    "RMSprop",
    "Step",
    "TorchOptimizer",
    "lr_schedules",
    "optimizers",
]
