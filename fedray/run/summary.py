"""The keys of ``summary.json``, which a driver writes as it ends."""

from __future__ import annotations

from collections.abc import Mapping

KEYS: Mapping[str, str] = {
    "name": "Name of the experiment.",
    "status": "``finished``; ``budget`` or ``early_stopped``, where it came to its end before its last round; "
    "``stopped`` by a signal; ``failed``.",
    "error": "Reason of a failure; there alone.",
    "failures": "The clients that gave no update in the round after ``rounds``, in which the run failed by them, as "
    "``failures`` of a record has them; there alone, and never under ``privacy``.",
    "budget": "The limit that ended the run, in words that begin with its config key; there alone.",
    "early_stopped": "Whether ``stop`` or which of the ``callbacks`` ended the run, likewise.",
    "best": "``metric``, ``value`` and ``round`` of the best evaluated model, and once it is exported its ``file``; "
    "under ``checkpoint.best``.",
    "not_private": "Words for noise that anybody can take off (``noise: seeded``); there alone.",
    "privacy": "What can be claimed of the run, as ``privacy.json`` has it; under ``privacy``.",
    "one_answer": "Where one class is the answer for all examples of the newest evaluation, though they are of "
    "several; there alone.",
    "rounds": "Rounds that are done.",
    "rounds_wanted": "Rounds that the config asks for.",
    "resumed_from": "Round of the checkpoint that this driver went on from; 0: it began.",
    "seconds": "Seconds of all drivers, from their start to their end or last checkpoint.",
    "examples": "Training examples that were used, counted once for each local epoch.",
    "totals": "Sums over all rounds, see below.",
    "seed": "The seed, which names every random draw.",
    "clients": "Clients in all.",
    "parameters": "Numbers of the model that are trained.",
    "workers": "Workers that took part in the last round.",
    "stacking": "How many clients trained at once, and the reason.",
    "machine": "The processor, the GPU and the versions that the bits depend on.",
    "versions": "Versions of Python and of the packages.",
    "final": "The last record, as it stands in ``metrics.jsonl``; null before the first.",
    "gone_on_after": "Round after which the run had come to its end, before somebody went on with it; there alone.",
}
"""The meaning of each.

That of a driver that could not begin has no more than ``name``, ``status``, ``error``, ``rounds`` and
``gone_on_after``.
"""
