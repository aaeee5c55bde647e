"""Figures of attacks: the ROC of guesses who was there, and rows beside those that were made anew."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedray.audit.inversion import Inverted, as_images
from fedray.audit.roc import Roc
from fedray.report.charts import FAINT, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STROKES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Rocs:
    """ROCs on logarithmic axes, where few false alarms show, with the line of who guesses.

    Args:
        name: of its files.
        unit: the unit that is guessed about, in the plural.
        curves: the words of the legend, and the ROC.
        claims: the words of the legend, and an (epsilon, delta) that bounds what any attack finds.
    """

    name: str
    unit: str
    curves: Sequence[tuple[str, Roc]]
    claims: Sequence[tuple[str, float, float]] = ()
    inches: tuple[float, float] = (6.0, 3.2)

    @property
    def caption(self) -> str:
        """A sentence on it."""
        told = "; ".join(f"{name}: area {roc.auc:.3f}" for name, roc in self.curves)
        return f"Share of {self.unit} found against that of false alarms, on logarithmic axes. {told}."

    def draw(self, axes: Axes) -> None:
        """Draw it."""
        least = min(1.0 / max(1, int((~roc.there).sum())) for _, roc in self.curves)
        low = 10.0 ** math.ceil(math.log10(least))
        for number, (name, roc) in enumerate(self.curves):
            alarms, hits = roc.points
            stroke = _STROKES[number % len(_STROKES)]
            axes.plot(
                np.maximum(alarms, low / 10), hits, color=SERIES[number], linestyle=stroke, drawstyle="steps-post",
                label=f"{name} ({roc.auc:.2f})",
            )  # fmt: skip
        grid = np.geomspace(low, 1.0, 100)
        axes.plot(grid, grid, color=FAINT, linewidth=0.8, label="guessing (0.50)")
        for name, epsilon, delta in self.claims:
            bound = np.minimum(np.exp(min(epsilon, 700.0)) * grid + delta, 1.0)
            axes.plot(grid, np.minimum(bound, 1.0 - np.exp(-epsilon) * (1.0 - delta - grid)), color=FAINT,
                      linestyle=":", label=name)  # fmt: skip
        axes.set(xscale="log", yscale="log", xlim=(low, 1.0), ylim=(low, 1.05))
        axes.set(xlabel="share of false alarms", ylabel=f"share of {self.unit} found")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda share, _: f"{100.0 * share:g} %")
        axes.grid()
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    def table(self) -> Iterator[Sequence[Any]]:
        """Yield the points of each curve."""
        yield ["attack", "share of false alarms", f"share of {self.unit} found"]
        for name, roc in self.curves:
            for alarms, hits in zip(*roc.points, strict=True):
                yield [name, float(alarms), float(hits)]


@dataclass(frozen=True)
class Beside:
    """True images in one line, and in the next ones what each attack has made of them, with PSNR in dB.

    Args:
        name: of its files.
        found: the words of a line, and what was made.  All are of the same rows.
        most: images shown at most.
    """

    name: str
    found: Sequence[tuple[str, Inverted]]
    most: int = 8

    @property
    def inches(self) -> tuple[float, float]:
        """Its width and height."""
        return 1.4 + 0.62 * self._count, 0.4 + 0.75 * (1 + len(self.found))

    @property
    def _count(self) -> int:
        return min(self.most, len(self.found[0][1].x))

    @property
    def caption(self) -> str:
        """A sentence on it."""
        means = (f"{name}: {np.mean(one.psnr):.1f} dB" for name, one in self.found)
        return f"Images of clients, and those that were made of updates; mean PSNR {', '.join(means)}."

    def draw(self, axes: Axes) -> None:
        """Draw it."""
        true = self.found[0][1].x
        lines = [("true", true, None), *((name, one.found, one.psnr) for name, one in self.found)]
        low, high = float(true.min()), float(true.max())
        for line, (name, rows, psnr) in enumerate(lines):
            images = as_images(rows)
            assert images is not None
            axes.text(-0.1, -line + 0.4, name, ha="right", va="center")
            for place in range(self._count):
                pixels = ((images[place] - low) / max(high - low, 1e-12)).clamp(0.0, 1.0)
                shown = pixels if pixels.dim() == 2 else pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
                # Each picture with its own place, as one axes holds them all.
                extent = (place, place + 0.8, -line, -line + 0.8)
                axes.imshow(shown.numpy(), cmap="gray", vmin=0.0, vmax=1.0, extent=extent)
                if psnr is not None:
                    axes.text(place + 0.4, -line - 0.09, _decibels(psnr[place]), ha="center", va="center", fontsize=6)
        axes.set(xlim=(-1.8, self._count), ylim=(-len(lines) + 0.75, 0.95))
        axes.set_axis_off()

    def table(self) -> Iterator[Sequence[Any]]:
        """Yield the quality of each image."""
        yield ["attack", "image", "PSNR in dB", "that of the best image of one brightness"]
        for name, one in self.found:
            for place, (psnr, flat) in enumerate(zip(one.psnr, one.flat, strict=True)):
                yield [name, place, psnr, flat]


def _decibels(value: float) -> str:
    return "exact" if math.isinf(value) else f"{value:.1f}"
