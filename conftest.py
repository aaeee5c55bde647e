"""What pytest imports first.

Of a file of parts alone (``pytest fedray/attacks/gaussian.py``) it would import the package, and then the file once
more, which registers its parts twice.
"""

from __future__ import annotations

import fedray.parts  # noqa: F401
