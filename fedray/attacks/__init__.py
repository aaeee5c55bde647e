"""Attacks, to break robust aggregators with: one small file each."""

from fedray.attacks.alie import ALIE
from fedray.attacks.base import Attack, attacks
from fedray.attacks.gaussian import GaussianAttack
from fedray.attacks.sign_flip import SignFlip

__all__ = ["ALIE", "Attack", "GaussianAttack", "SignFlip", "attacks"]
