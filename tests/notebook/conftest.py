"""Real kernels, driven over their sockets as a front end drives them; and what they leave behind.

A :class:`Kernel` reads everything that the kernel publishes in a thread of its own, with the time
of arrival, and replays it as a notebook would: an ``update_display_data`` changes the display
where it was first shown. So a test sees each cell's outputs as a user sees them.

``LOGMESH_TEST_KERNELS`` names interpreters (with ipykernel and what logmesh_ipy needs) that
the tests marked for all kernels run on as well, separated by ``:``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, TypeVar

import pytest
import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from jupyter_client.session import Session

from tests.support import mesh_directories, wait_until

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]


def mesh_processes(directory: str) -> Dict[int, str]:
    """Living processes of meshes whose temporary directory is ``directory``: pid, command line."""
    place = f"TMPDIR={directory}".encode()
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            entries = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
            command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if place in entries and any(entry.startswith(b"LOGMESH_SESSION=") for entry in entries):
            found[int(name)] = command.decode(errors="replace")
    return found


@dataclass(frozen=True)
class Message:
    """One iopub message; ``at`` is the monotonic time of its arrival."""

    at: float
    kind: str
    parent: str
    content: Dict[str, Any]
    buffers: Tuple[bytes, ...] = ()


@dataclass
class Cell:
    """What a notebook shows under one cell."""

    request: str
    stdout: str = ""
    stderr: str = ""
    displays: List[Dict[str, Any]] = field(default_factory=list)
    result: Optional[str] = None
    error: str = ""
    ename: str = ""
    reply: Dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Its displays as text; the interactive view has none."""
        return "\n".join(display["text/plain"] for display in self.snapshots)

    @property
    def snapshots(self) -> List[Dict[str, Any]]:
        """Its displays but for the interactive view: what a saved notebook shows."""
        return [display for display in self.displays if "text/plain" in display]

    @property
    def lines(self) -> List[str]:
        """The lines that the procs printed, with their prefixes, without the receipt."""
        return [line for line in self.text.split("\n") if line.startswith("[")]

    @property
    def receipt(self) -> str:
        """The line that says what the barrier proved."""
        found = [line for line in self.text.split("\n") if " procs, " in line and " lost" in line]
        return found[-1] if found else ""


def whole_lines(lines: List[str]) -> Dict[str, List[str]]:
    """Lines by prefix, each in one piece.

    ``print(a, b)`` in a thread is several writes. A barrier between two of them shows the first
    part at the end of its cell; the rest comes with the next cell, behind an ellipsis.
    """
    whole: Dict[str, List[str]] = {}
    for line in lines:
        prefix, _, text = line.partition("] ")
        mine = whole.setdefault(f"{prefix}]", [])
        if text.startswith("\N{HORIZONTAL ELLIPSIS}"):
            mine[-1] += text[1:]
        else:
            mine.append(text)
    return whole


class Kernel:
    """One kernel process."""

    def __init__(self, directory: str, python: str, environ: Dict[str, str]) -> None:
        self.directory = directory
        spec = Path(directory, "specs", "tested")
        spec.mkdir(parents=True)
        argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        argv.append("--HistoryManager.enabled=False")  # else each cell is a write to a database
        spec.joinpath("kernel.json").write_text(
            json.dumps({"argv": argv, "display_name": "tested", "language": "python"})
        )
        specs = KernelSpecManager(kernel_dirs=[str(spec.parent)], ensure_native_kernel=False)
        self.manager = KernelManager(
            kernel_name="tested",
            kernel_spec_manager=specs,
            connection_file=f"{directory}/kernel.json",
        )
        self.manager.shutdown_wait_time = 2.0
        self.said = open(f"{directory}/kernel.out", "w+b")  # noqa: SIM115 (closed by stop)
        self.manager.start_kernel(
            env=environ, cwd=directory, stdout=self.said, stderr=subprocess.STDOUT
        )
        self.client: BlockingKernelClient = self.manager.client()
        self.messages: List[Message] = []
        self._arrived = threading.Condition()
        self._ended = False
        self._idle: Dict[str, int] = {}
        self._replayed = 0
        self._cells: Dict[str, Cell] = {}
        self._homes: Dict[str, Tuple[Cell, int]] = {}
        self._connect()

    def _connect(self) -> None:
        self._iopub = self.manager.connect_iopub()
        self._iopub.rcvhwm = 0
        self._reader = threading.Thread(target=self._read, name="iopub", daemon=True)
        self._reader.start()
        self.client.start_channels(iopub=False, hb=False)
        # The subscription travels by itself: ask until something is heard.
        deadline = time.monotonic() + 30
        while not self.messages:
            self.client.kernel_info()
            with self._arrived:
                self._arrived.wait_for(lambda: self.messages, 0.2)
            if time.monotonic() > deadline:
                raise AssertionError(f"the kernel does not answer: {self.words()}")
        request = self.client.kernel_info()
        wait_until(lambda: self._reply(request), 30)

    def _read(self) -> None:
        session = Session(key=self.manager.session.key, check_pid=False)
        poller = zmq.Poller()
        poller.register(self._iopub, zmq.POLLIN)
        while not self._ended:
            if not poller.poll(50):
                continue
            frames = self._iopub.recv_multipart(copy=True)
            at = time.monotonic()
            _, parts = session.feed_identities(frames)
            raw = session.deserialize(parts)
            parent = raw["parent_header"].get("msg_id", "")
            buffers = tuple(bytes(buffer) for buffer in raw["buffers"])
            message = Message(at, raw["header"]["msg_type"], parent, raw["content"], buffers)
            with self._arrived:
                self.messages.append(message)
                if message.kind == "status" and message.content["execution_state"] == "idle":
                    self._idle[parent] = len(self.messages)
                self._arrived.notify_all()
        self._iopub.close(linger=0)

    # --- running cells ------------------------------------------------------------------------

    def send(self, code: str, subshell: Optional[str] = None) -> str:
        """Send a cell without waiting; gives the request's id."""
        if subshell is None:
            return str(self.client.execute(code, allow_stdin=False, stop_on_error=False))
        content = {"code": code, "silent": False, "allow_stdin": False, "stop_on_error": False}
        message = self.client.session.msg("execute_request", content)
        message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def new_subshell(self) -> str:
        """The id of a new one, which runs cells beside the others."""
        message = self.client.session.msg("create_subshell_request", {})
        self.client.control_channel.send(message)
        answer = self.client.get_control_msg(timeout=10)
        return str(answer["content"]["subshell_id"])

    def run(self, code: str, timeout: float = 30.0) -> Cell:
        """Run a cell to its end."""
        return self.finish(self.send(code), timeout)

    def finish(self, request: str, timeout: float = 30.0) -> Cell:
        """Wait for the end of a cell: its reply, and idle."""
        deadline = time.monotonic() + timeout
        reply = None
        while reply is None:
            reply = self._reply(request, max(0.0, deadline - time.monotonic()))
            if reply is None and time.monotonic() > deadline:
                raise AssertionError(f"the cell did not end in {timeout} s: {self.words()}")
        with self._arrived:
            left = max(0.0, deadline - time.monotonic())
            if not self._arrived.wait_for(lambda: request in self._idle, left):
                raise AssertionError(f"the kernel is not idle after {timeout} s: {self.words()}")
        cell = self.shown(request)
        cell.reply = reply["content"]
        return cell

    def is_over(self, request: str) -> bool:
        """Whether the kernel has been idle again after a request."""
        with self._arrived:
            return request in self._idle

    def _reply(self, request: str, timeout: float = 0.1) -> Optional[Dict[str, Any]]:
        """The next reply on the shell channel, if it is this request's."""
        if not self.client.shell_channel.socket.poll(int(timeout * 1000)):
            return None
        message: Dict[str, Any] = self.client.get_shell_msg(timeout=1)
        return message if message["parent_header"]["msg_id"] == request else None

    def ask(self, request: str, timeout: float = 10.0) -> Dict[str, Any]:
        """The content of the reply to a request that is no cell."""
        content: Dict[str, Any] = wait_until(lambda: self._reply(request), timeout)["content"]
        return content

    def complete(self, code: str) -> List[str]:
        """What Tab offers at the end of ``code``."""
        matches: List[str] = self.ask(self.client.complete(code))["matches"]
        return matches

    def value(self, expression: str) -> str:
        """``repr`` of an expression in the kernel, without running a cell."""
        request = self.client.execute(
            "", silent=True, allow_stdin=False, user_expressions={"it": f"str({expression})"}
        )
        found = self.ask(request)["user_expressions"]["it"]
        assert found["status"] == "ok", found
        text: str = found["data"]["text/plain"]
        return text[1:-1]

    # --- what is shown ------------------------------------------------------------------------

    def shown(self, request: str) -> Cell:
        """What stands under a cell now."""
        return self.notebook().get(request) or Cell(request)

    def notebook(self) -> Dict[str, Cell]:
        """All cells, as a front end shows them now."""
        with self._arrived:
            new, self._replayed = self.messages[self._replayed :], len(self.messages)
        for message in new:
            self._replay(message)
        return self._cells

    def _replay(self, message: Message) -> None:
        cell = self._cells.setdefault(message.parent, Cell(message.parent))
        content = message.content
        if message.kind == "stream":
            name = content["name"]
            setattr(cell, name, getattr(cell, name) + content["text"])
        elif message.kind == "display_data":
            display_id = content.get("transient", {}).get("display_id")
            if display_id is not None:
                self._homes[display_id] = (cell, len(cell.displays))
            cell.displays.append(content["data"])
        elif message.kind == "update_display_data":
            home, index = self._homes[content["transient"]["display_id"]]
            home.displays[index] = content["data"]
        elif message.kind == "execute_result":
            cell.result = content["data"]["text/plain"]
        elif message.kind == "error":
            cell.ename = content["ename"]
            cell.error = "\n".join(content["traceback"])

    def words(self) -> str:
        """What the kernel process itself has written, its warnings left out."""
        self.said.flush()
        text = Path(self.said.name).read_text(errors="replace")
        return "\n".join(line for line in text.split("\n") if "WARNING" not in line)

    # --- its life -----------------------------------------------------------------------------

    def interrupt(self) -> None:
        """What the stop button does."""
        self.manager.interrupt_kernel()

    def restart(self) -> None:
        """What the restart button does."""
        self._disconnect()
        # The new client numbers its requests from the start again.
        self.messages.clear()
        self._idle.clear()
        self._cells.clear()
        self._homes.clear()
        self._replayed = 0
        self.manager.restart_kernel(now=False)
        self.client = self.manager.client()
        self._connect()

    def kill(self) -> None:
        """``kill -9``."""
        self.manager.signal_kernel(9)

    def _disconnect(self) -> None:
        self._ended = True
        self._reader.join(timeout=5)
        self.client.stop_channels()
        self._ended = False

    def stop(self) -> None:
        """Shut it down."""
        self._disconnect()
        self.manager.shutdown_kernel(now=False)
        self.manager.cleanup_resources()
        self.manager.context.destroy(linger=0)
        self.said.close()


class KernelMaker:
    """Starts kernels; all are shut down when the test ends."""

    def __init__(self, directory: str, python: str) -> None:
        self.directory = directory
        self.python = python
        self.kernels: List[Kernel] = []

    def __call__(self, start: Optional[str] = None, *, procs: int = 2, **environ: str) -> Kernel:
        """A kernel; ``start`` holds options of ``%logmesh start``, None starts no mesh."""
        place = f"{self.directory}/k{len(self.kernels)}"
        os.mkdir(place)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LOGMESH_")}
        python_path = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))
        home = {
            "TMPDIR": self.directory,
            "PYTHONPATH": python_path,
            "IPYTHONDIR": f"{place}/ipython",
            "JUPYTER_RUNTIME_DIR": f"{place}/runtime",
        }
        kernel = Kernel(place, self.python, {**kept, **home, **environ})
        self.kernels.append(kernel)
        if start is not None:
            kernel.run("%load_ext logmesh_ipy")
            cell = kernel.run(f"%logmesh start --procs {procs} {start}")
            assert cell.reply["status"] == "ok", (cell.error, cell.stderr)
            assert "ready in" in cell.stdout, (cell, kernel.words())
        return kernel


def _interpreters() -> List[str]:
    others = os.environ.get("LOGMESH_TEST_KERNELS", "")
    return [sys.executable, *filter(None, others.split(os.pathsep))]


@pytest.fixture(scope="module", params=_interpreters(), ids=lambda path: Path(path).parts[-3])
def python(request: pytest.FixtureRequest) -> str:
    """The interpreter whose ipykernel is tested."""
    path: str = request.param
    return path


def kernel_makers(python: str) -> Iterator[KernelMaker]:
    """One; when it is done with, its kernels are shut down, and nothing is left of them."""
    directory = tempfile.mkdtemp(prefix="lmn-", dir="/tmp")  # short: it holds socket paths
    maker = KernelMaker(directory, python)
    try:
        yield maker
        for kernel in maker.kernels:
            kernel.stop()
        left = wait_for_nothing(directory)
        assert not left
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def wait_for_nothing(directory: str, timeout: float = 2.0) -> Dict[str, Any]:
    """What is left of all meshes when ``timeout`` seconds have passed, or as soon as nothing is."""
    deadline = time.monotonic() + timeout
    while True:
        held = {
            "processes": mesh_processes(directory),
            "directories": mesh_directories(directory),
        }
        left: Dict[str, Any] = {name: value for name, value in held.items() if value}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)


@pytest.fixture
def kernels(python: str) -> Iterator[KernelMaker]:
    """``kernels("--window 3")`` starts a kernel with a mesh; after the test nothing is left."""
    yield from kernel_makers(python)


@pytest.fixture(scope="module")
def shared(python: str) -> Iterator[Kernel]:
    """One kernel with a mesh of 4 procs, for tests that leave it as it was."""
    for maker in kernel_makers(python):
        yield maker("", procs=4)


@pytest.fixture
def dice() -> random.Random:
    """Dice; pytest shows the seed when the test fails."""
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
    sys.stdout.write(f"SEED={seed}\n")
    return random.Random(seed)
