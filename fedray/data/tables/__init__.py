"""Small real tables that ship with the package, as scikit-learn bundles them.

* ``digits``: Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, UCI, CC BY 4.0), its test part: 1,797
  images of 8 x 8 pixels with values 0 to 16, ten classes.
* ``breast_cancer``: Breast Cancer Wisconsin (Diagnostic) (W. Wolberg, O. Mangasarian, N. Street, W. Street, UCI,
  CC BY 4.0): 569 rows of 30 measurements, malignant or benign.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


def load_table(name: Literal["digits", "breast_cancer"]) -> dict[str, NDArray[Any]]:
    """Load the arrays of a shipped table.

    ``digits``: ``x`` uint8 ``[1797, 8, 8]``, ``y`` uint8 ``[1797]``.  ``breast_cancer``: ``x`` float64 ``[569, 30]``,
    ``y`` uint8 ``[569]``, ``features`` and ``classes`` text.
    """
    with files(__name__).joinpath(f"{name}.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as table:
        return {key: table[key] for key in table.files}
