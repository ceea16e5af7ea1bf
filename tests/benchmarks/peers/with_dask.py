"""dask.distributed: a task per worker process prints; ``ForwardOutput`` brings it to the client."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, Iterator, Optional

import distributed
from distributed.diagnostics.plugin import ForwardOutput
from driving import WORK, drive


def prints(arguments: Dict[str, Any], work: str = WORK) -> None:
    """Runs the work; a worker keeps what it has made of it."""
    worker = distributed.get_worker()
    if not hasattr(worker, "work"):
        worker.work = {}
        exec(work, worker.work)
    worker.work["prints"](**arguments)


@contextlib.contextmanager
def without_stdout() -> Iterator[None]:
    """Processes started meanwhile do not inherit stdout: each line would be there twice."""
    kept = os.dup(1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


class Dask:
    version = distributed.__version__

    def __init__(self, procs: int, window_sec: Optional[int]) -> None:
        with without_stdout():
            self._cluster = distributed.LocalCluster(
                n_workers=procs, threads_per_worker=1, processes=True, dashboard_address=None
            )
        self._client = distributed.Client(self._cluster)
        self._client.register_plugin(ForwardOutput())
        self._workers = list(self._client.scheduler_info()["workers"])

    def prints(self, **arguments: Any) -> None:
        tasks = [
            self._client.submit(prints, arguments, workers=[worker], pure=False)
            for worker in self._workers
        ]
        self._client.gather(tasks)

    def flush(self) -> None:
        pass

    def stop(self) -> None:
        self._client.close()
        self._cluster.close()


if __name__ == "__main__":
    drive(Dask)
