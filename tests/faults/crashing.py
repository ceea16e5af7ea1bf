"""A driver of a mesh that is killed: python tests/faults/crashing.py TALLY SOURCES -- COMMAND ...

It runs the command once per rank, and says on stdout what a crash must not take back. A line is
``stored T ROWS`` (at the monotonic time T so many rows were in its store), ``proc SOURCE PROC`` for
each writer, or ``proved BYTES ...``: what each writer had written when a barrier was asked for that
has returned. With ``--forks`` it has a forked child that lives on.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from logmesh_ipy import this_host
from logmesh_ipy.config import MeshOptions
from logmesh_ipy.store import LogStore
from tests.faults.writer import Tally

_SAMPLE_SEC = 0.05


def say(*words: object) -> None:
    """One line, whole even when threads say something at once."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def tell_rows(store: LogStore) -> None:
    """What is stored, twenty times a second."""
    while True:
        rows = store.rows
        say("stored", time.monotonic(), rows)
        time.sleep(_SAMPLE_SEC)


def main() -> None:
    """The command line (see the module's text)."""
    at = sys.argv.index("--")
    path, numbers, *flags = sys.argv[1:at]
    tally, sources = Tally(path), range(*map(int, numbers.split("-")))
    mesh = this_host().spawn_procs(len(sources), options=MeshOptions(), commands_only=True).get(30)
    store = mesh.instance.store
    job = mesh.exec(sys.argv[at + 1 :]).get(30)
    for proc, rank in job.rank_of.items():
        say("proc", rank, proc)
    if "--forks" in flags:
        while not store.session_name:
            time.sleep(_SAMPLE_SEC)
        if not os.fork():
            say("child", os.getpid())
            time.sleep(60)
            sys.exit()
    threading.Thread(target=tell_rows, args=(store,), daemon=True).start()
    while True:
        written = [tally.written(source, 1).done for source in sources]
        if mesh.flush(30).get(40):
            say("proved", *written)
        time.sleep(_SAMPLE_SEC)


if __name__ == "__main__":
    main()
