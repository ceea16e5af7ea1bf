"""``python -m logmesh_ipy run ...``: the command ``logmesh``."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
