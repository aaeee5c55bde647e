"""The charts of TensorBoard's tab Custom Scalars: curves that belong into one, which its other tabs never join."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

CLIENTS, EACH = "test_clients", "test_each_client"
"""The beginnings of the tags of how metrics spread over clients, and of those of single clients."""

Charts = dict[str, dict[str, list[Any]]]
"""Charts by their titles, in their categories, as ``torch.utils.tensorboard`` takes them."""

_MEAN = re.compile(rf"(?:train|test)/([^/]+)|{CLIENTS}/(?:personal/|finetuned/)?([^/]+)/mean")


def charts(tags: Iterable[str]) -> Charts:
    """Return the charts that some curves make.

    Of each metric that several of them tell, the clients' training, the test set and the clients' mean are one chart;
    the median and the tenths of the clients are another, and single clients a third.  A chart is the same whichever of
    these there are: the page joins the charts of several runs, and of one title shows all that differ.

    >>> list(charts(["train/loss", "train/lr", "test/loss", "test_clients/loss/mean"])["test and train"])
    ['loss']
    >>> charts(["train/loss", "train/lr"])
    {}

    Args:
        tags: of the curves.
    """
    there = dict.fromkeys(tags)
    means: dict[str, list[str]] = {}
    spread: dict[str, list[Any]] = {}
    each: dict[str, list[Any]] = {}
    for tag in there:
        if found := _MEAN.fullmatch(tag):
            means.setdefault(found[1] or found[2], []).append(tag)
        of, _, last = tag.rpartition("/")
        if of.startswith(f"{CLIENTS}/") and last == "p50":
            spread[of.partition("/")[2]] = ["Margin", [tag, f"{of}/p10", f"{of}/p90"]]
        if of.startswith(f"{EACH}/"):
            each[of.partition("/")[2]] = ["Multiline", [f"^{re.escape(of)}/[^/]*$"]]
    together = {metric: ["Multiline", [_any_mean(metric)]] for metric, curves in means.items() if len(curves) > 1}
    found_in = {"test and train": together, "clients": spread, "each client": each}
    return {category: shown for category, shown in found_in.items() if shown}


def _any_mean(metric: str) -> str:
    name = re.escape(metric)
    return f"^(?:(?:train|test)/{name}|{CLIENTS}/(?:personal/|finetuned/)?{name}/mean)$"
