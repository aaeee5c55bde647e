"""Pages and figures of what runs have shown: one HTML file that needs no network, and files for a paper."""

from fedray.report.blocks import Facts, Figures, Section, Table, Verbatim, Words
from fedray.report.charts import Bars, Boxes, Chart, Curve, Curves, Matrix, Points
from fedray.report.figures import save_figures
from fedray.report.page import check_packages, render, write_page

__all__ = [
    "Bars",
    "Boxes",
    "Chart",
    "Curve",
    "Curves",
    "Facts",
    "Figures",
    "Matrix",
    "Points",
    "Section",
    "Table",
    "Verbatim",
    "Words",
    "check_packages",
    "render",
    "save_figures",
    "write_page",
]
