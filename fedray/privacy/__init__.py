"""Differential privacy: who is protected, what is released, and what it costs."""

from fedray.privacy.accounting import epsilon, noise_multiplier
from fedray.privacy.section import Privacy

__all__ = ["Privacy", "epsilon", "noise_multiplier"]
