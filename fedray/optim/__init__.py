"""Optimizers: SGD, Adam, AdamW, RMSprop, Adagrad."""

from fedray.optim.base import ELEMENTWISE, OptimizerFn, TorchOptimizer, optimizers
from fedray.optim.by_name import SGD, Adagrad, Adam, AdamW, RMSprop

__all__ = ["ELEMENTWISE", "SGD", "Adagrad", "Adam", "AdamW", "OptimizerFn", "RMSprop", "TorchOptimizer", "optimizers"]
