"""The part that all ``with_*.py`` share: they hear on stdin what to do and answer on a descriptor.

``with_ray.py DESCRIPTOR SETTINGS`` (JSON) starts the system and answers ``{"version": ...}``. Each
line on stdin is then one round of prints (JSON: the arguments of ``prints`` in ``work.py``); it is
answered with ``{}`` when the system says that the work is done, and flushed if that is asked for.
At the end of stdin it stops; it dies with the harness. A failure is answered with
``{"failed": why}``.

What the procs print appears on stdout, as the system brings it to its driver. Since stdout is a
pipe here, Python keeps what is written until a block is full; so it is flushed now and then, as
notebooks do. These scripts import nothing of this package.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Callable, Optional, Protocol

WORK = Path(__file__).with_name("work.py").read_text(encoding="utf-8")
_FLUSH_SEC = 0.01
_PR_SET_PDEATHSIG = 1


class System(Protocol):
    """A started system."""

    version: str

    def prints(self, *, count: int, kinds: int, values: bool, size: int) -> None:
        """Have each proc run ``prints`` of ``WORK``; wait for its end."""

    def flush(self) -> None:
        """Have it show what it holds back, if it can be told to."""

    def stop(self) -> None:
        """End all that was started."""


def _flush_stdout() -> None:
    while True:
        time.sleep(_FLUSH_SEC)
        sys.stdout.flush()


def drive(start: Callable[[int, Optional[int]], System]) -> None:
    """Do what the harness says. ``start`` takes the number of procs and the window's seconds."""
    descriptor, settings = int(sys.argv[1]), json.loads(sys.argv[2])
    os.set_inheritable(descriptor, False)  # daemons of the system would keep it open
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # whatever it waits for then
    with open(descriptor, "w", encoding="utf-8", buffering=1) as answers:
        try:
            threading.Thread(target=_flush_stdout, daemon=True).start()
            system = start(settings["procs"], settings["window_sec"])
            try:
                answers.write(json.dumps({"version": system.version}) + "\n")
                for line in sys.stdin:
                    system.prints(**json.loads(line))
                    if settings["flush"]:
                        system.flush()
                    answers.write("{}\n")
            finally:
                system.stop()
        except Exception as failure:  # noqa: BLE001 (whatever a system raises is its answer)
            traceback.print_exc()
            answers.write(json.dumps({"failed": f"{type(failure).__name__}: {failure}"}) + "\n")
            sys.exit(1)
