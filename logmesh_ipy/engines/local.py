"""The local engine: one bootstrap on this machine, a child of the kernel in its own session."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import BinaryIO, Tuple

from ..errors import OptionError, SpawnError
from ..procs import SESSION_VARIABLE, sweep
from ..wire import Call, encode
from .base import HostPlan

__all__ = ["LocalEngine"]

_MAX_WORDS = 4000


class _LocalHost:
    """The bootstrap's process."""

    def __init__(self, process: subprocess.Popen[bytes], words: BinaryIO, session: str) -> None:
        self._process = process
        self._words = words
        self._session = session
        self._said = ""

    def is_running(self) -> bool:
        return self._process.poll() is None

    def last_words(self) -> str:
        if self._words.closed:
            return self._said
        fd = self._words.fileno()
        start = max(0, os.fstat(fd).st_size - _MAX_WORDS)
        data = os.pread(fd, _MAX_WORDS, start)
        if start:  # Of a line that is cut, nobody could say whether there is a secret in it.
            data = data.partition(b"\n")[2]
        return data.decode(errors="replace").strip()

    def clean_up(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._said = self.last_words()
        self._words.close()
        sweep(self._session)


class LocalEngine:
    """Starts ``python -m logmesh_ipy.bootstrap`` with the interpreter of the kernel."""

    is_local = True

    def __init__(self, hosts: Tuple[str, ...] = ()) -> None:
        if hosts and any(host not in ("localhost", "127.0.0.1") for host in hosts):
            raise OptionError(
                f"the local engine knows this machine only, not {', '.join(hosts)}; leave --hosts "
                "out, or choose an engine that reaches other hosts"
            )

    async def start_host(self, plan: HostPlan) -> _LocalHost:
        """Start the bootstrap; its configuration goes through standard input."""
        return self._start(plan)

    def _start(self, plan: HostPlan) -> _LocalHost:
        config = {**plan.config, "parent": os.getpid()}
        tee = bool(config["options"].get("tee"))
        environ = {**os.environ, SESSION_VARIABLE: config["session"]}
        # What it writes to standard error by itself is not redacted: it must not reach a disk.
        words = open(os.memfd_create(f"logmesh {plan.name}"), "rb")  # noqa: SIM115 (of the handle)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "logmesh_ipy.bootstrap"],
                stdin=subprocess.PIPE,
                stdout=None if tee else subprocess.DEVNULL,
                stderr=None if tee else words,
                env=environ,
                start_new_session=True,
            )
        except OSError as error:
            words.close()
            raise SpawnError(f"the bootstrap cannot be started: {error}") from None
        assert process.stdin is not None
        # Where it died at once, whoever waits for its connection tells why.
        with contextlib.suppress(OSError), process.stdin as stdin:
            stdin.write(encode(Call(n=0, method="configure", args=config)))
        return _LocalHost(process, words, config["session"])
