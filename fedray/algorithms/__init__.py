"""The algorithms: one small file each."""

from fedray.algorithms.fedavg import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedSGD, FedYogi
from fedray.algorithms.fedcm import FedCM, MoFedSAM
from fedray.algorithms.feddecorr import FedDecorr
from fedray.algorithms.feddyn import FedDyn
from fedray.algorithms.fedexp import FedExP
from fedray.algorithms.fedlc import FedLC, FedRS
from fedray.algorithms.fednova import FedNova
from fedray.algorithms.fedntd import FedNTD
from fedray.algorithms.fedprox import FedProx
from fedray.algorithms.fedsam import FedSAM
from fedray.algorithms.mifa import MIFA
from fedray.algorithms.moon import MOON
from fedray.algorithms.qfedavg import QFedAvg
from fedray.algorithms.scaffold import Scaffold

__all__ = [
    "MIFA",
    "MOON",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedCM",
    "FedDecorr",
    "FedDyn",
    "FedExP",
    "FedLC",
    "FedNTD",
    "FedNova",
    "FedProx",
    "FedRS",
    "FedSAM",
    "FedSGD",
    "FedYogi",
    "MoFedSAM",
    "QFedAvg",
    "Scaffold",
]
