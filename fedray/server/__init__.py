"""Server optimizers, the section ``server`` of a config: how the global model moves by the mean update."""

from fedray.server.adaptive import Adagrad, Adam, Yogi
from fedray.server.base import ServerOptimizer, server_optimizers
from fedray.server.lamb import Lamb
from fedray.server.rows import PerClient, SentRows
from fedray.server.server import Server
from fedray.server.sgd import SGD, Momentum

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "Lamb",
    "Momentum",
    "PerClient",
    "SentRows",
    "Server",
    "ServerOptimizer",
    "Yogi",
    "server_optimizers",
]
