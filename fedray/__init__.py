"""fedray: federated learning of PyTorch models, from a laptop to a cluster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedray.core.collector import collector_off

if TYPE_CHECKING:
    from fedray import metrics as metrics
    from fedray import optim as optim
    from fedray import parts as parts
    from fedray import privacy as privacy
    from fedray import server as server
    from fedray import tasks as tasks
    from fedray.again import debug, evaluate, verify
    from fedray.aggregators import CenteredClip, GeometricMedian, Krum, Mean, Median, MultiKrum, TrimmedMean
    from fedray.algorithms import (
        AFL,
        APFL,
        IFCA,
        MIFA,
        MOON,
        Centralized,
        DiLoCo,
        Ditto,
        FedAdagrad,
        FedAdam,
        FedALA,
        FedAMP,
        FedAvg,
        FedAvgM,
        FedBABU,
        FedBN,
        FedCM,
        FedDC,
        FedDecorr,
        FedDyn,
        FedExLoRA,
        FedExP,
        FedIT,
        FedLC,
        FedNova,
        FedNTD,
        FedPer,
        FedProto,
        FedProx,
        FedRep,
        FedRoD,
        FedRolex,
        FedRS,
        FedSAM,
        FedSGD,
        FedVARP,
        FedYogi,
        FFALoRA,
        FLoRA,
        HeteroFL,
        HetLoRA,
        LGFedAvg,
        LocalOnly,
        Mime,
        MoFedSAM,
        PerFedAvg,
        PFedMe,
        QFedAvg,
        Scaffold,
        StreamingDiLoCo,
    )
    from fedray.api import Cluster, FederatedModel, TrainArgs, train
    from fedray.attacks import ALIE, GaussianAttack, SignFlip
    from fedray.core.errors import ConfigError, RunFailed
    from fedray.core.record import RoundRecord
    from fedray.data import FederatedData
    from fedray.data.augment import Crop, Flip, Normalize
    from fedray.data.columns.ragged import Ragged
    from fedray.data.partition import IID, Column, Dirichlet, Quantity, Shards
    from fedray.experiment.result import Result
    from fedray.predict import Predictions, Predictor, load
    from fedray.privacy import Privacy
    from fedray.rundir.client_table import read_clients
    from fedray.sampling import AvailabilityTrace, Full, Poisson, RoundRobin, Separated, Uniform, Weighted
    from fedray.transforms import BF16, Clip, Gaussian, Int4, Int8, SecureSum, TopK

__version__ = "0.2.0"

_NAMES = {
    "aggregators": "CenteredClip GeometricMedian Krum Mean Median MultiKrum TrimmedMean",
    "algorithms": "AFL APFL Centralized DiLoCo Ditto FFALoRA FLoRA FedALA FedAMP FedAdagrad FedAdam FedAvg FedAvgM "
    "FedBABU FedBN FedCM FedDC FedDecorr FedDyn FedExLoRA FedExP FedIT FedLC FedNTD FedNova FedPer FedProto FedProx "
    "FedRS FedRep FedRoD FedRolex FedSAM FedSGD FedVARP FedYogi HetLoRA HeteroFL IFCA LGFedAvg LocalOnly MIFA MOON "
    "Mime MoFedSAM PFedMe PerFedAvg QFedAvg Scaffold StreamingDiLoCo",
    "again": "debug evaluate verify",
    "api": "Cluster FederatedModel TrainArgs train",
    "experiment.result": "Result",
    "data": "FederatedData",
    "data.augment": "Crop Flip Normalize",
    "data.columns.ragged": "Ragged",
    "data.partition": "Column Dirichlet IID Quantity Shards",
    "attacks": "ALIE GaussianAttack SignFlip",
    "core.errors": "ConfigError RunFailed",
    "core.record": "RoundRecord",
    "predict": "Predictions Predictor load",
    "privacy": "Privacy",
    "rundir.client_table": "read_clients",
    "sampling": "AvailabilityTrace Full Poisson RoundRobin Separated Uniform Weighted",
    "transforms": "BF16 Clip Gaussian Int4 Int8 SecureSum TopK",
}

_MODULES = ("metrics", "optim", "parts", "privacy", "server", "tasks")
"""Modules whose names are public, too."""


if not TYPE_CHECKING:  # a type checker knows the names, and that there are no others

    def __getattr__(name: str) -> Any:
        # Imported when first asked for: torch takes seconds, which `fedray --help` and starting nodes need not wait.
        if name in _MODULES:
            return import_module(f"fedray.{name}")
        for module, names in _NAMES.items():
            if name in names.split():
                with collector_off():
                    value = globals()[name] = getattr(import_module(f"fedray.{module}"), name)
                return value
        raise AttributeError(f"module 'fedray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_MODULES]


__all__ = [
    "AFL",
    "ALIE",
    "APFL",
    "BF16",
    "IFCA",
    "IID",
    "MIFA",
    "MOON",
    "AvailabilityTrace",
    "CenteredClip",
    "Centralized",
    "Clip",
    "Cluster",
    "Column",
    "ConfigError",
    "Crop",
    "DiLoCo",
    "Dirichlet",
    "Ditto",
    "FFALoRA",
    "FLoRA",
    "FedALA",
    "FedAMP",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedBABU",
    "FedBN",
    "FedCM",
    "FedDC",
    "FedDecorr",
    "FedDyn",
    "FedExLoRA",
    "FedExP",
    "FedIT",
    "FedLC",
    "FedNTD",
    "FedNova",
    "FedPer",
    "FedProto",
    "FedProx",
    "FedRS",
    "FedRep",
    "FedRoD",
    "FedRolex",
    "FedSAM",
    "FedSGD",
    "FedVARP",
    "FedYogi",
    "FederatedData",
    "FederatedModel",
    "Flip",
    "Full",
    "Gaussian",
    "GaussianAttack",
    "GeometricMedian",
    "HetLoRA",
    "HeteroFL",
    "Int4",
    "Int8",
    "Krum",
    "LGFedAvg",
    "LocalOnly",
    "Mean",
    "Median",
    "Mime",
    "MoFedSAM",
    "MultiKrum",
    "Normalize",
    "PFedMe",
    "PerFedAvg",
    "Poisson",
    "Predictions",
    "Predictor",
    "Privacy",
    "QFedAvg",
    "Quantity",
    "Ragged",
    "Result",
    "RoundRecord",
    "RoundRobin",
    "RunFailed",
    "Scaffold",
    "SecureSum",
    "Separated",
    "Shards",
    "SignFlip",
    "StreamingDiLoCo",
    "TopK",
    "TrainArgs",
    "TrimmedMean",
    "Uniform",
    "Weighted",
    "debug",
    "evaluate",
    "load",
    "read_clients",
    "train",
    "verify",
]
