"""The algorithms: one small file each."""

from fedray.algorithms.fedavg import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedSGD, FedYogi
from fedray.algorithms.fednova import FedNova
from fedray.algorithms.fedprox import FedProx
from fedray.algorithms.scaffold import Scaffold

__all__ = ["FedAdagrad", "FedAdam", "FedAvg", "FedAvgM", "FedNova", "FedProx", "FedSGD", "FedYogi", "Scaffold"]
