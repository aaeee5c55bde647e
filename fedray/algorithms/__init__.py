"""The algorithms: one small file each."""

from fedray.algorithms.afl import AFL
from fedray.algorithms.apfl import APFL
from fedray.algorithms.centralized import Centralized
from fedray.algorithms.diloco import DiLoCo
from fedray.algorithms.ditto import Ditto
from fedray.algorithms.fedala import FedALA
from fedray.algorithms.fedamp import FedAMP
from fedray.algorithms.fedavg import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedSGD, FedYogi
from fedray.algorithms.fedbabu import FedBABU
from fedray.algorithms.fedbn import FedBN
from fedray.algorithms.fedcm import FedCM, MoFedSAM
from fedray.algorithms.feddc import FedDC
from fedray.algorithms.feddecorr import FedDecorr
from fedray.algorithms.feddyn import FedDyn
from fedray.algorithms.fedexlora import FedExLoRA
from fedray.algorithms.fedexp import FedExP
from fedray.algorithms.fedit import FedIT, FFALoRA
from fedray.algorithms.fedlc import FedLC, FedRS
from fedray.algorithms.fednova import FedNova
from fedray.algorithms.fedntd import FedNTD
from fedray.algorithms.fedper import FedPer, LGFedAvg
from fedray.algorithms.fedproto import FedProto
from fedray.algorithms.fedprox import FedProx
from fedray.algorithms.fedrep import FedRep
from fedray.algorithms.fedrod import FedRoD
from fedray.algorithms.fedsam import FedSAM
from fedray.algorithms.fedvarp import FedVARP
from fedray.algorithms.flora import FLoRA
from fedray.algorithms.heterofl import FedRolex, HeteroFL
from fedray.algorithms.hetlora import HetLoRA
from fedray.algorithms.ifca import IFCA
from fedray.algorithms.local_only import LocalOnly
from fedray.algorithms.mifa import MIFA
from fedray.algorithms.mime import Mime
from fedray.algorithms.moon import MOON
from fedray.algorithms.perfedavg import PerFedAvg
from fedray.algorithms.pfedme import PFedMe
from fedray.algorithms.qfedavg import QFedAvg
from fedray.algorithms.scaffold import Scaffold
from fedray.algorithms.streaming_diloco import StreamingDiLoCo

__all__ = [
    "AFL",
    "APFL",
    "IFCA",
    "MIFA",
    "MOON",
    "Centralized",
    "DiLoCo",
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
    "HetLoRA",
    "HeteroFL",
    "LGFedAvg",
    "LocalOnly",
    "Mime",
    "MoFedSAM",
    "PFedMe",
    "PerFedAvg",
    "QFedAvg",
    "Scaffold",
    "StreamingDiLoCo",
]
