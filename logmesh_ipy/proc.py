"""The program of a proc: ``python -m logmesh_ipy.proc``, started or forked for the bootstrap.

The main thread runs the user's code. One more thread runs the loop of the proc's actors: the
LogForwardActor and the LoggerRuntimeActor on one uplink, the run channel on another. The
configuration comes on standard input, which then is empty for the user's code. Where that asks
for it, the program is the server that procs are forked from.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
import threading
from typing import Any, Dict, Optional

from .channel import let_go_in_forked_children
from .forkserver import FORK, serve
from .handshake import Role, Token
from .log_forward_actor import LogForwardActor
from .logger_runtime_actor import LoggerRuntimeActor
from .model import LoggerRuntimeMessage
from .rpc import Responder, read_call
from .runner import CodeRunner, StdioFlusher, hide_environment
from .uplink import Uplink
from .wire import decode

__all__ = ["ProcAgent", "main"]


class ProcAgent:
    """The actors of one proc, on the loop of the agent's thread."""

    def __init__(self, config: Dict[str, Any], runner: CodeRunner) -> None:
        self._config = {**config, "token": Token(config["token"])}
        self._runner = runner

    def start_thread(self) -> None:
        """Run the actors in a daemon thread."""
        address = LogForwardActor.address_from_environment()
        hide_environment()
        threading.Thread(
            target=lambda: asyncio.run(self._main(address)), name="logmesh", daemon=True
        ).start()

    async def _main(self, address: Optional[str]) -> None:
        proc = self._config["proc"]
        flusher = StdioFlusher(asyncio.get_running_loop())
        self._runtime = LoggerRuntimeActor()
        self._forwarder = LogForwardActor(
            address, proc=proc, flush_stdio=flusher.request, on_fatal=self._fatal
        )
        if self._config.get("level") is not None:
            self._runtime.tell(LoggerRuntimeMessage.SetLogging(level=self._config["level"]))
        logs = self._uplink(
            Role.FORWARDER,
            on_frame=self._log_frame,
            on_up=self._forwarder.link_up,
            on_down=self._forwarder.link_down,
        )
        self._forwarder.use_link(logs)
        responder = Responder({"run": self._run, "exit": self._exit})
        runs: Uplink = self._uplink(
            Role.RUN,
            on_frame=responder.receive,
            on_up=lambda: responder.connected(runs),
            on_down=lambda error: responder.disconnected(),
        )
        logs.start()
        runs.start()
        await self._forwarder.start()
        await asyncio.Event().wait()

    def _uplink(self, role: Role, **callbacks: Any) -> Uplink:
        name = str(self._config["proc"])
        return Uplink(
            self._config["uplink"], self._config["token"], role, name,
            certificate=self._config["certificate"], patience_sec=self._config["patience_sec"],
            **callbacks,
        )  # fmt: skip

    def _log_frame(self, kind: int, body: bytes) -> None:
        message = decode(kind, body)
        if type(message) is LoggerRuntimeMessage.SetLogging:
            self._runtime.tell(message)
        else:
            self._forwarder.client_message(message)

    def _run(self, kind: str, blob: bytes, filename: str, want: str) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def done(result: Dict[str, Any]) -> None:
            loop.call_soon_threadsafe(future.set_result, result)

        self._runner.submit(kind, blob, filename, want, done)
        return future

    def _exit(self) -> Dict[str, Any]:
        busy = self._runner.busy
        self._runner.stop()
        return {"busy": busy}

    def _fatal(self, error: Exception) -> None:
        sys.stderr.write(f"logmesh_ipy: {error}\n")
        sys.stderr.flush()


def main() -> None:
    """Entry point of the program."""
    call = read_call(0)
    if call.method == FORK:
        config = serve(call.args["parent"])
        if config is not None:
            _run(config)
        return
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    _run(call.args)


def _run(config: Dict[str, Any]) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    let_go_in_forked_children()
    runner = CodeRunner(
        config["rank"], redact=config["redact"], redact_environment=config["redact_environment"]
    )
    ProcAgent(config, runner).start_thread()
    runner.run_forever()


if __name__ == "__main__":
    main()
