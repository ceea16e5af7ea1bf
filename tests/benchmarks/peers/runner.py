"""Peers as runners: each drives its system in a process of its own, by the system's own Python.

The harness reads the stdout of that process, where the system shows its driver what the procs
print, and counts the lines that arrive there; ``driving.py`` is the other side of this.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import IO, Any, Dict, Optional, Tuple, Type

import psutil

from ..runners import Arrival

HERE = Path(__file__).resolve().parent
SETUP = "tests/benchmarks/peers/setup"
START_TIMEOUT_SEC = 120.0
STOP_TIMEOUT_SEC = 20.0
ROUND_TIMEOUT_SEC = 60.0
_LAST_WORDS_SEC = 5.0
_PIPE_BYTES = 1 << 20
_GATHER_SEC = 0.002
"""Between reads: one per line would take the procs' time. The pipe holds more than comes."""
_TOKEN = "LOGMESH_BENCHMARK_PEER"


class PeerError(Exception):
    """A peer does not start: what it said."""


def place() -> Path:
    """The directory that holds the peers' virtual environments."""
    chosen = os.environ.get("LOGMESH_PEERS_VENV")
    return Path(chosen).absolute() if chosen else Path.home() / ".cache/logmesh-peers"


class Peer:
    """One system. Subclasses say how its driver shows lines.

    ``mark`` occurs once in each line that stands for itself; ``many`` finds how many lines one
    line stands for, where the system aggregates. What has not come ``quiet_sec`` after the last
    line and the end of the work does not come. ``flush``: flush after the work, if the system can.
    """

    name: str
    mark = b"....\n"
    many: Optional[re.Pattern[bytes]] = None
    quiet_sec = 10.0

    def __init__(self, *, flush: bool = False) -> None:
        self.version = ""
        self._flush = flush
        self._procs = 0
        self._token = uuid.uuid4().hex
        self._directory = Path()
        self._driver: subprocess.Popen[bytes]
        self._answers: IO[str]
        self._arrivals: Arrivals

    @classmethod
    def available(cls) -> bool:
        """Whether it was installed, to the end."""
        return (place() / cls.name / "complete").exists()

    def start(self, procs: int, window_sec: Optional[float]) -> None:
        """Bring up ``procs`` procs. Raises PeerError; then nothing is left of it."""
        self._procs = procs
        self._directory = Path(tempfile.mkdtemp(prefix="peer-"))  # short: Ray has sockets in it
        settings = {"procs": procs, "window_sec": window_sec and int(window_sec)}
        settings["flush"] = self._flush
        command = [place() / self.name / "bin/python", HERE / f"with_{self.name}.py"]
        answers, told = os.pipe()
        self._answers = os.fdopen(answers, encoding="utf-8")
        try:
            with self._errors.open("wb") as errors:
                self._driver = subprocess.Popen(
                    [*command, str(told), json.dumps(settings)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                    env=self._environment(), cwd=self._directory, pass_fds=[told],
                    start_new_session=True,
                )  # fmt: skip
        finally:
            os.close(told)
        assert self._driver.stdout is not None
        many = self.many if window_sec is not None else None
        self._arrivals = Arrivals(self._driver.stdout.fileno(), self.mark, many)
        try:
            self.version = self._answer(START_TIMEOUT_SEC)["version"]
        except BaseException:
            self.stop()
            raise

    def print_lines(self, count: int, kinds: int, *, values: bool, size: int = 100) -> Arrival:
        """As :class:`Runner` says; it gives up when nothing more comes."""
        before, expected = self._arrivals.lines, self._procs * count
        began = time.perf_counter()
        arguments = {"count": count, "kinds": kinds, "values": values, "size": size}
        assert self._driver.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: there is no answer
            self._driver.stdin.write(json.dumps(arguments).encode() + b"\n")
            self._driver.stdin.flush()
        failure = ""
        try:
            self._answer(ROUND_TIMEOUT_SEC)
        except PeerError as ended:
            failure = str(ended)
        done = now = time.perf_counter()
        while (
            not failure
            and self._arrivals.lines - before < expected
            and now - max(done, self._arrivals.last) < self.quiet_sec
            and now - began < ROUND_TIMEOUT_SEC
        ):
            time.sleep(0.005)
            now = time.perf_counter()
        lines, last = self._arrivals.lines - before, self._arrivals.last
        return Arrival(
            lines=min(lines, expected), expected=expected, failure=failure,
            seconds=last - began if lines else time.perf_counter() - began,
        )  # fmt: skip

    def stop(self) -> None:
        """End everything, whatever state it is in."""
        assert self._driver.stdin is not None
        try:
            self._driver.stdin.close()
            self._driver.wait(STOP_TIMEOUT_SEC)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._driver.kill()
            self._driver.wait()
        self._end_the_rest()
        self._arrivals.close()
        for stream in (self._driver.stdout, self._answers):
            assert stream is not None
            stream.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _environment(self) -> Dict[str, str]:
        """That of a user without settings of their own, whose files are gone afterwards."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        own = dict.fromkeys(("HOME", "TMPDIR", "RAY_TMPDIR"), str(self._directory))
        return {**kept, **own, "RAY_USAGE_STATS_ENABLED": "0", _TOKEN: self._token}

    @property
    def _errors(self) -> Path:
        return self._directory / "stderr"

    def _answer(self, timeout_sec: float) -> Dict[str, Any]:
        ready, _, _ = select.select([self._answers], [], [], timeout_sec)
        line = self._answers.readline() if ready else ""
        answer: Dict[str, Any] = json.loads(line) if line else {}
        if line and "failed" not in answer:
            return answer
        if ready and not line:  # it is about to end: what it says at last comes first
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._driver.wait(_LAST_WORDS_SEC)
        last = self._errors.read_text(errors="replace").strip().rpartition("\n")[2]
        silent = f"ended: {last}" if ready else f"no answer within {timeout_sec:.0f} s"
        raise PeerError(f"{self.name}: {answer.get('failed', silent)}")

    def _end_the_rest(self) -> None:
        """Daemons that the system has left behind bear its token in their environment."""
        left = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(_TOKEN) == self._token:
                    process.kill()
                    left.append(process)
            except psutil.Error:  # ended meanwhile, or another user's
                continue
        psutil.wait_procs(left, timeout=5)


class Monarch(Peer):
    """Its bootstrap also tees what the procs print, as it is, to the driver's stdout."""

    name = "monarch"
    mark = b"] ["  # [proc] [rank] text; what is teed has neither
    many = re.compile(rb"\[(\d+) similar log lines\]")


class IPyParallel(Peer):
    """The cell ends when all is shown. What an engine says may cut another's line in two."""

    name = "ipyparallel"
    quiet_sec = 1.0


class Ray(Peer):
    """Its driver shows repeats of a line 5 s later, and only when something else is printed."""

    name = "ray"
    many = re.compile(rb"\[repeated (\d+)x")


class Dask(Peer):
    """Lines are events of the scheduler, one per call of ``write``."""

    name = "dask"


PEERS: Dict[str, Type[Peer]] = {made.name: made for made in (Monarch, IPyParallel, Ray, Dask)}


class Arrivals:
    """Reads a pipe in a thread. ``lines`` have come so far, the last of them at ``last``."""

    def __init__(self, descriptor: int, mark: bytes, many: Optional[re.Pattern[bytes]]) -> None:
        self.lines = 0
        self.last = time.perf_counter()
        self._descriptor = descriptor
        self._mark = mark
        self._many = many
        self._wake = os.pipe()
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading. The pipe stays open."""
        os.write(self._wake[1], b".")
        self._thread.join()
        for end in self._wake:
            os.close(end)

    def _read(self) -> None:
        rest = b""
        while self._wake[0] not in select.select([self._descriptor, self._wake[0]], [], [])[0]:
            data = os.read(self._descriptor, _PIPE_BYTES)
            if not data:
                return
            time.sleep(_GATHER_SEC)
            whole, newline, rest = (rest + data).rpartition(b"\n")
            found = count_lines(whole + newline, self._mark, self._many)
            if found:
                self.last = time.perf_counter()
                self.lines += found


def count_lines(shown: bytes, mark: bytes, many: Optional[re.Pattern[bytes]]) -> int:
    """How many lines of the procs these whole lines of a driver stand for."""
    return shown.count(mark) + sum(map(int, many.findall(shown)) if many else ())


def missing() -> Tuple[str, ...]:
    """The names of the peers that are not installed."""
    return tuple(name for name, made in PEERS.items() if not made.available())
