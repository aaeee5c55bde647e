"""The training mode of a model's parts: all train but those that its builder set to evaluation."""

from __future__ import annotations

from torch import nn


def train_mode(module: nn.Module) -> nn.Module:
    """Set a model that its builder has just given to training; what was set to ``eval()`` inside it stays so.

    A model that is in evaluation mode as a whole, as ``from_pretrained`` gives one, is set to training as a whole.
    Embeddings with ``sparse=True`` give dense gradients from here on: rules, most optimizers and stacks need them.

    >>> model = nn.Sequential(nn.BatchNorm1d(3).eval(), nn.Linear(3, 2))
    >>> [part.training for part in train_mode(model)]
    [False, True]
    >>> [part.training for part in train_mode(model.eval())]
    [True, True]
    """
    built = {part: part.training for part in module.modules()}
    module.train()
    for part in module.modules() if built[module] else ():
        if part.training and not built[part]:
            part.eval()
            for inner in part.modules():
                inner.training = built[inner]
    for part in module.modules():
        if isinstance(part, nn.Embedding | nn.EmbeddingBag):
            part.sparse = False
    return module


def carried_buffers(module: nn.Module) -> frozenset[str]:
    """Return the names of the buffers that training writes and does not read: a normalisation's running statistics.

    >>> sorted(carried_buffers(nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3).eval(), nn.Linear(3, 2))))
    ['0.num_batches_tracked', '0.running_mean', '0.running_var']

    Args:
        module: a model that its builder has just given; it is set to training.
    """
    return frozenset(
        f"{name}.{buffer}" if name else buffer
        for name, part in train_mode(module).named_modules()
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.training
        for buffer, _ in part.named_buffers(recurse=False)
    )
