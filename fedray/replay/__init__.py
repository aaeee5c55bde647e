"""Rounds of a run done again, in this process and beside its folder: to verify, compare and debug."""
