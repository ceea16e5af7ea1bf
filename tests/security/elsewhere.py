"""A host that is not this machine: a network namespace, with one wire to the kernel's.

Whoever runs in it reaches the kernel over TCP alone; Unix sockets are not its business, although
the file system is the same. Needs root; ``why_not()`` says what is missing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from typing import Iterator, List, Tuple

from logmesh_ipy.engines.base import HostPlan
from logmesh_ipy.procs import SESSION_VARIABLE, sweep
from logmesh_ipy.wire import Call, encode

__all__ = ["Elsewhere", "ElsewhereEngine", "elsewhere", "why_not"]


def why_not() -> str:
    """Why there can be no network namespaces; empty where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the command ip (Debian: apt-get install iproute2)"
    tried = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "this system lets nobody make network namespaces"


class Elsewhere:
    """A namespace; ``here`` and ``there`` are the addresses of the wire's two ends."""

    def __init__(self) -> None:
        number = os.getpid() % 10_000
        self.name = f"lm{number}"
        self._wire = f"lm{number}a", f"lm{number}b"
        subnet = f"10.{200 + number % 50}.{number // 50 % 250}"
        self.here, self.there = f"{subnet}.1", f"{subnet}.2"

    def open(self) -> None:
        near, far = self._wire
        _ip("netns", "add", self.name)
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", self.name)
        _ip("addr", "add", f"{self.here}/30", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-n", self.name, "addr", "add", f"{self.there}/30", "dev", far)
        _ip("-n", self.name, "link", "set", far, "up")

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._wire[0])
        _ip("netns", "del", self.name)

    def command(self, argv: List[str]) -> List[str]:
        """What runs ``argv`` in there."""
        return ["ip", "netns", "exec", self.name, *argv]


@contextlib.contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """A namespace for a while."""
    place = Elsewhere()
    try:
        place.open()
        yield place
    finally:
        place.close()


class _ElsewhereHost:
    def __init__(self, process: subprocess.Popen[bytes], words: str, session: str) -> None:
        self._process = process
        self._words = words
        self._session = session

    def is_running(self) -> bool:
        return self._process.poll() is None

    def last_words(self) -> str:
        with contextlib.suppress(OSError), open(self._words, encoding="utf-8") as file:
            return file.read().strip()
        return ""

    def clean_up(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)
        self._process.kill()
        self._process.wait()
        sweep(self._session)


class ElsewhereEngine:
    """Starts bootstraps in the namespace that ``--hosts`` names."""

    is_local = False

    def __init__(self, hosts: Tuple[str, ...] = ()) -> None:
        (self._name,) = hosts

    async def start_host(self, plan: HostPlan) -> _ElsewhereHost:
        return self._start(plan)

    def _start(self, plan: HostPlan) -> _ElsewhereHost:
        session, directory = plan.config["session"], plan.config["session_directory"]
        words = os.path.join(directory, f"{plan.name}.err")
        with open(words, "wb") as errors:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self._name, sys.executable, "-m", "logmesh_ipy.bootstrap"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, SESSION_VARIABLE: session},
                start_new_session=True,
            )
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(encode(Call(n=0, method="configure", args=plan.config)))
        return _ElsewhereHost(process, words, session)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
