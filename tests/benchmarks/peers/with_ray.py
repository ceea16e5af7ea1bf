"""Ray: an actor per proc prints; its log monitor brings the lines to the driver.

A window means its de-duplication. Its own window is 5 s, and what it holds back it shows when some
later line comes.
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict, Optional

from driving import WORK, drive

_TICKS = 8


class Printer:
    """Runs the work."""

    def __init__(self) -> None:
        self._work: Dict[str, Any] = {}
        exec(WORK, self._work)

    def prints(self, arguments: Dict[str, Any]) -> None:
        self._work["prints"](**arguments)

    def tick(self) -> None:
        print("tick")  # noqa: T201 (as the work)


class Ray:
    def __init__(self, procs: int, window_sec: Optional[int]) -> None:
        os.environ["RAY_DEDUP_LOGS"] = str(int(window_sec is not None))  # read by the import
        import ray

        self.version = ray.__version__
        self._ray = ray
        ray.init(num_cpus=procs, include_dashboard=False, logging_level="error")
        self._printers = [ray.remote(num_cpus=1)(Printer).remote() for _ in range(procs)]

    def prints(self, **arguments: Any) -> None:
        self._ray.get([printer.prints.remote(arguments) for printer in self._printers])

    def flush(self) -> None:
        """Print something now and then for longer than the window: that shows what is held."""
        for _ in range(_TICKS):
            time.sleep(1)
            self._ray.get(self._printers[0].tick.remote())

    def stop(self) -> None:
        self._ray.shutdown()


if __name__ == "__main__":
    drive(Ray)
