"""ipyparallel: ``%%px --stream`` in an IPython shell, on a local cluster of engines."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Optional

import ipyparallel
from driving import WORK, drive
from IPython.core.interactiveshell import InteractiveShell


class IPyParallel:
    version = version("ipyparallel")

    def __init__(self, procs: int, window_sec: Optional[int]) -> None:
        self._shell = InteractiveShell.instance()
        self._cluster = ipyparallel.Cluster(n=procs, log_level=40)
        client = self._cluster.start_and_connect_sync(activate=True)
        client[:].execute(WORK, block=True)

    def prints(self, **arguments: Any) -> None:
        self._shell.run_cell(f"%%px --stream\nprints(**{arguments!r})").raise_error()

    def flush(self) -> None:
        pass  # the cell has ended with all shown

    def stop(self) -> None:
        self._cluster.stop_cluster_sync()


if __name__ == "__main__":
    drive(IPyParallel)
