"""Differential privacy: who is protected, what is released, and what it costs."""
