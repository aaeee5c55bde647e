"""The doctor of machines: facts are gathered on each, and pure functions judge if they are fit for a run."""

from fedray.doctor.checks import Finding, Level, examine
from fedray.doctor.cluster import compare
from fedray.doctor.facts import Facts, Folder, gather
from fedray.doctor.visit import Report, visit_cluster, visit_here

__all__ = [
    "Facts",
    "Finding",
    "Folder",
    "Level",
    "Report",
    "compare",
    "examine",
    "gather",
    "visit_cluster",
    "visit_here",
]
