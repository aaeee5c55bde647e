"""Models: small reference ones by name, and the user's own by ``package.module:factory``."""

from fedray.models.build import initial_model, resolve_model
from fedray.models.cnn import CNN
from fedray.models.decoder import Decoder
from fedray.models.huggingface import HuggingFace, Lora
from fedray.models.logistic import Logistic
from fedray.models.lstm import LSTM
from fedray.models.mlp import MLP
from fedray.models.registry import Model, models
from fedray.models.resnet import ResNet18GN
from fedray.models.transformer import Transformer
from fedray.models.user import UserModel

__all__ = [
    "CNN",
    "LSTM",
    "MLP",
    "Decoder",
    "HuggingFace",
    "Logistic",
    "Lora",
    "Model",
    "ResNet18GN",
    "Transformer",
    "UserModel",
    "initial_model",
    "models",
    "resolve_model",
]
