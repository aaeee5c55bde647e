"""The labels of the clients, kept in the run folder for who looks at it later."""

from __future__ import annotations

import json

from fedray.data.picture import label_table
from fedray.rundir import durable
from fedray.rundir.names import LABELS
from fedray.tracking.base import RunInfo, Tracker


class Labels(Tracker):
    """The tracker that writes ``labels.json``: the training examples of each class at each client.

    It has the content of :func:`fedray.data.picture.label_table`; without classes there is no file.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> with TemporaryDirectory() as folder:
    ...     counts, names = np.array([[3, 1]]), ["ann"]
    ...     run = RunInfo(Path(folder), "first", 1, clients=1, label_counts=counts, client_names=names)
    ...     Labels().start(run)
    ...     print(Path(folder, "labels.json").read_text())
    {"clients": ["ann"], "classes": [], "of": 1, "counts": [[3, 1]]}
    """

    def start(self, run: RunInfo) -> None:
        """Write the file.

        Raises:
            OSError: it cannot be written.
        """
        if run.label_counts is not None:
            names = run.client_names if len(run.client_names) == len(run.label_counts) else []
            table = label_table(run.label_counts, lambda client: names[client] if names else str(client), run.classes)
            durable.replace(run.run_dir / LABELS, json.dumps(table, ensure_ascii=False).encode())
