"""Slurm: the batch script, and the programs that turn an allocation into a Ray cluster for one run.

Nothing here imports Ray or torch: ``batch`` runs on a login node, ``job`` beside the driver, ``node`` before Ray.
"""
