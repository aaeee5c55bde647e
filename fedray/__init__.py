"""fedray: federated learning of PyTorch models, from a laptop to a cluster."""

from fedray.aggregators import Mean, Median, TrimmedMean
from fedray.algorithms import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedNova,
    FedProx,
    FedSGD,
    FedYogi,
    Scaffold,
)
from fedray.api import Cluster, FederatedModel, Result, TrainArgs, train
from fedray.data import FederatedData
from fedray.errors import ConfigError, RunFailed
from fedray.record import RoundRecord
from fedray.sampling import Full, Poisson, Uniform, Weighted
from fedray.transforms import Clip, Gaussian, TopK

__version__ = "0.1.0"

__all__ = [
    "Clip",
    "Cluster",
    "ConfigError",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedNova",
    "FedProx",
    "FedSGD",
    "FedYogi",
    "FederatedData",
    "FederatedModel",
    "Full",
    "Gaussian",
    "Mean",
    "Median",
    "Poisson",
    "Result",
    "RoundRecord",
    "RunFailed",
    "Scaffold",
    "TopK",
    "TrainArgs",
    "TrimmedMean",
    "Uniform",
    "Weighted",
    "train",
]
