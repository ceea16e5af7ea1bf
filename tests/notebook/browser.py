"""A browser without a screen: hears the panel's messages, keeps what it is told, and asks.

It speaks the protocol of ``labextension/src/core/protocol.ts`` over the raw comm, as the
JupyterLab extension does, and checks each message against it.
"""

from __future__ import annotations

import json
import struct
import uuid
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from tests.notebook.conftest import Kernel, Message
from tests.support import wait_until

MAX_BYTES = 256 << 10


@dataclass(frozen=True)
class SeenLine:
    """One line as the browser was told of it."""

    rank: int
    target: int
    cell: int
    seq: int
    text: str
    flags: int = 0
    template: int = 0


class Browser:
    """What one page knows of a session."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.subshell = ""
        self._heard = 0
        self._forget("")

    def _forget(self, session: str) -> None:
        """Another session begins."""
        self.session = session
        self.rows: Dict[int, SeenLine] = {}
        self.skips: List[Dict[str, Any]] = []
        self.live: List[Any] = []
        self.state: Dict[str, Any] = {}
        self.procs: Dict[int, List[Any]] = {}
        self.receipts: List[Tuple[int, int, str]] = []
        self.replies: Dict[str, Dict[str, Any]] = {}
        self.files: Dict[str, List[bytes]] = {}
        self.numbers: List[int] = []
        self.sizes: List[int] = []
        self.times: List[float] = []
        self.arrived: Dict[int, float] = {}
        self.live_end: Optional[int] = None
        self._sources: Dict[int, List[Any]] = {}
        self.templates: Dict[int, List[Any]] = {}

    def hear(self) -> Browser:
        """Take all that has been published since."""
        messages = self.kernel.messages
        new, self._heard = messages[self._heard :], len(messages)
        for message in new:
            identity = str(message.content.get("comm_id", ""))
            if not identity.startswith("logmesh-"):
                continue
            if message.kind == "comm_open":
                self._forget(message.content["data"]["session"])
            elif message.kind == "comm_msg" and identity == f"logmesh-{self.session}":
                self._take(message)
        return self

    def skip_to_now(self) -> None:
        """Hear nothing of what has been published so far."""
        self._heard = len(self.kernel.messages)

    def until(self, predicate: Any, timeout: float = 10.0) -> Any:
        """Hear until ``predicate(browser)``."""
        return wait_until(lambda: predicate(self.hear()), timeout, lambda: self)

    def _take(self, message: Message) -> None:
        content = message.content["data"]
        buffer = message.buffers[0] if message.buffers else b""
        assert content["logmesh"] == 1
        assert content["session"] == self.session
        size = len(json.dumps(content)) + len(buffer)
        assert size <= MAX_BYTES, size
        self.numbers.append(content["n"])
        self.sizes.append(size)
        self.times.append(message.at)
        kind = content["type"]
        if kind == "rows":
            self._take_rows(content, buffer, message.at)
        elif kind == "live":
            self.live = content["lines"]
        elif kind == "state":
            self.state = content
            for cell, text, _ in content.get("receipts", []):
                self.receipts.append((cell, len(self.rows), text))
        elif kind == "procs":
            if content["full"]:
                self.procs.clear()
            self.procs.update({row[0]: row for row in content["procs"]})
        elif kind == "receipt":
            self.receipts.append((content["cell"], len(self.rows), content["text"]))
        elif kind == "reply":
            self.replies[content["id"]] = content
        else:
            assert kind == "file"
            assert len(self.files.setdefault(content["id"], [])) == content["part"]
            self.files[content["id"]].append(buffer)

    def _take_rows(self, content: Dict[str, Any], buffer: bytes, at: float) -> None:
        if content["live"]:
            assert self.live_end is None or content["first"] == self.live_end
            self.live_end = content["end"]
        for source in content["sources"]:
            self._sources[source[0]] = source
        for telling in content["templates"]:
            assert len(telling[2]) == (len(telling[3]) + 1 if telling[0] == telling[1] else 0)
            self.templates[telling[0]] = telling
        ids = self._ids(content, buffer)
        flags = {row: flag for row, flag, _ in content["marks"]}
        covered = [(skip["first"], skip["end"]) for skip in content["skips"]]
        position = 0
        for source, target, cell, first_row, first_line, count, _, size in content["chunks"]:
            lines = buffer[position : position + size].decode().split("\n")
            position += size
            assert lines.pop() == ""
            assert len(lines) == count
            covered.append((first_row, first_row + count))
            # A page that has come in the middle learns who is who from what it asked for.
            rank = self._sources[source][1] if source in self._sources else -1
            for index, text in enumerate(lines):
                row = first_row + index
                self.arrived.setdefault(row, at)
                self.rows[row] = SeenLine(
                    rank, target, cell, first_line + index, text, flags.get(row, 0), ids.pop()
                )
        assert position == len(buffer) - 4 * sum(chunk[5] for chunk in content["chunks"])
        end = content["first"]
        for first, stop in sorted(covered):
            assert first == end, (content["first"], content["end"], covered)
            end = stop
        assert end == content["end"]
        for skip in content["skips"]:
            lines_of_cells = sum(cell[1] for cell in skip["cells"])
            assert lines_of_cells == skip["end"] - skip["first"]
            assert sum(group[4] for group in skip["groups"]) + skip["others"] == lines_of_cells
        self.skips += content["skips"]

    def _ids(self, content: Dict[str, Any], buffer: bytes) -> List[int]:
        """The template of each line of a message, the last line's first; all have been told."""
        lines = sum(chunk[5] for chunk in content["chunks"])
        ids = list(struct.unpack(f"<{lines}I", buffer[len(buffer) - 4 * lines :]))
        used = {*ids, *(group[7] for skip in content["skips"] for group in skip["groups"])}
        # A page that has come in the middle may have missed what live messages told before.
        if self.numbers[0] == 1 or not content["live"]:
            assert used - {0} <= self.templates.keys()
        return ids[::-1]

    def group_of(self, line: SeenLine) -> List[Any]:
        """The template that a line belongs to, as far as this page knows."""
        telling = self.templates[line.template]
        while telling[0] != telling[1]:
            telling = self.templates[telling[1]]
        return telling

    # --- asking -------------------------------------------------------------------------------

    def open_subshell(self) -> None:
        """What JupyterLab does for a comm on kernels that have subshells."""
        session, control = self.kernel.client.session, self.kernel.client.control_channel
        request = session.msg("create_subshell_request", {})
        control.send(request)
        reply = wait_until(lambda: control.msg_ready() and control.get_msg(timeout=1), 10)
        self.subshell = reply["content"]["subshell_id"]

    def ask(self, kind: str, **arguments: Any) -> str:
        """Send a request; its id."""
        request = uuid.uuid4().hex
        data = {"logmesh": 1, "session": self.session, "id": request, "type": kind, **arguments}
        content = {"comm_id": f"logmesh-{self.session}", "data": data}
        message = self.kernel.client.session.msg("comm_msg", content)
        if self.subshell:
            message["header"]["subshell_id"] = self.subshell
        self.kernel.client.shell_channel.send(message)
        return request

    def answer(self, kind: str, timeout: float = 10.0, **arguments: Any) -> Dict[str, Any]:
        """Ask, and wait for the reply."""
        request = self.ask(kind, **arguments)
        reply: Dict[str, Any] = self.until(lambda page: page.replies.get(request), timeout)
        return reply

    def fetch_all(self, end: int) -> None:
        """Bring every row that is not here."""
        first = 0
        while first < end:
            reply = self.answer("fetch", first=first, end=end)
            assert reply["ok"], reply
            assert reply["next"] > first
            first = reply["next"]

    def untold(self, end: int) -> int:
        """How many of the rows before ``end`` are in no line and in no skip."""
        told = bytearray(end)
        for skip in self.skips:
            told[skip["first"] : skip["end"]] = b"\1" * (skip["end"] - skip["first"])
        for row in self.rows:
            told[row] = 1
        return told.count(0)

    def texts(self, cell: int) -> Dict[int, List[str]]:
        """The lines of a cell by rank, in order."""
        found: Dict[int, List[str]] = {}
        for row in sorted(self.rows):
            line = self.rows[row]
            if line.cell == cell:
                found.setdefault(line.rank, []).append(line.text)
        return found

    def __repr__(self) -> str:
        return f"<Browser: {len(self.rows)} rows, live to {self.live_end}, state {self.state}>"
