"""Measurements: fedray against a bare PyTorch loop (README.md)."""
