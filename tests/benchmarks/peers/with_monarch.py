"""PyTorch Monarch: an actor per proc prints; the logging mesh streams it, or aggregates it."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any, Dict, Optional

from driving import WORK, drive
from monarch.actor import Actor, endpoint, this_host
from monarch.config import configure


class Printer(Actor):
    """Runs the work."""

    def __init__(self, work: str) -> None:
        self._work: Dict[str, Any] = {}
        exec(work, self._work)

    @endpoint
    def prints(self, arguments: Dict[str, Any]) -> None:
        self._work["prints"](**arguments)


class Monarch:
    version = version("torchmonarch")

    def __init__(self, procs: int, window_sec: Optional[int]) -> None:
        configure(enable_log_forwarding=True)
        self._host = this_host()
        self._mesh = self._host.spawn_procs({"gpus": procs})
        asyncio.run(self._mesh.logging_option(True, window_sec))
        self._printers = self._mesh.spawn("printers", Printer, WORK)

    def prints(self, **arguments: Any) -> None:
        self._printers.prints.call(arguments).get()

    def flush(self) -> None:
        self._mesh._logging_manager._new_flush_handle().get(timeout=120)

    def stop(self) -> None:
        self._mesh.stop().get()


if __name__ == "__main__":
    drive(Monarch)
