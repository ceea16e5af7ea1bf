"""The interactive view's kernel side: one thread that sends the store's rows to browsers.

    store --append--> wake > replies, receipts, state > rows > live lines > pages asked for

At most ``MAX_PER_SEC`` messages a second of at most 256 KB, numbered over all of them. What comes
faster than that is told as skips; the store has all. The browser asks for what it misses: requests
are taken in whatever thread hears them and answered by the sender, so nothing here waits for a
browser, and no browser holds up a cell.

    running --end_mesh--> resting (sends what is asked for, else has no thread) --close--> closed
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from typing import (
    IO,
    Any,
    Callable,
    Deque,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Protocol,
    Tuple,
    Union,
)

from ..clock import SYSTEM_CLOCK, Clock
from ..errors import LogMeshError, OptionError
from ..model import OutputTarget
from ..slot_values import GroupKey, NumberSlot, TextSlot, slot_values
from ..store import LogStore
from .comms import Port, any_greeted, open_ports
from .feed import Message, RowFeed, live_message
from .worker import Worker

__all__ = ["MAX_PER_SEC", "Panel", "PanelSource"]

MAX_PER_SEC = 10
_UNHEARD_PER_SEC = 8  # while no browser has said that it listens; each goes to all ports
_TICK_SEC = 0.05
_IDLE_SEC = 0.5
# Together less than ten a second, so that what is urgent finds room.
_ROWS_SEC = 0.15
_LIVE_SEC = 0.5
_PROCS_SEC = 1.0
_STATE_SEC = 0.5
_END_SEC = 1.0
_CLOSE_SEC = 5.0
_MAX_RECEIPTS = 200
_MAX_WAITING = 64
_PART_BYTES = 240 << 10
_VALUES_SEC = 3.0
_MAX_VALUE = 200
_MOST = sys.float_info.max
_TOO_MANY = "too many requests wait to be answered; try again"
_NOTHING: Iterator[Message] = iter(())


class PanelSource(Protocol):
    """What the panel tells of besides rows, and does for browsers. Called in any thread."""

    def state(self) -> Dict[str, Any]:
        """``StateMessage`` of the protocol, without its numbers."""

    def procs(self) -> List[Tuple[Any, ...]]:
        """All ``ProcTuple`` of the protocol."""

    def set_mode(self, change: Mapping[str, Any]) -> str:
        """Change the mesh's mode; what is in force then, in words. Raises RuntimeError."""

    def flush(self, then: Callable[[str, str], None]) -> None:
        """Run the barrier; ``then(text, error)``, one of them empty."""

    def download(
        self, file_format: str, cell: Optional[int], ranks: Optional[List[int]]
    ) -> Tuple[str, str, IO[bytes]]:
        """All lines as a file: name, mime type, what to read it from. Raises LogMeshError."""


class Panel:
    """``session`` is the id that browsers know it by. Rows before ``first_row`` are not shown."""

    def __init__(
        self,
        store: LogStore,
        session: str,
        source: PanelSource,
        first_row: int = 0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.session = session
        self.ports: List[Port] = []
        self.error: Optional[BaseException] = None
        self._store = store
        self._source = source
        self._clock = clock
        self._feed = RowFeed(store, first_row)
        self._condition = threading.Condition()
        self._replies: Deque[Message] = deque()
        self._proofs: Deque[Tuple[int, Message]] = deque()
        self._values_worker = Worker("logmesh-values", _MAX_WAITING)
        self._work: Deque[Tuple[str, Iterator[Message]]] = deque()
        self._receipts: Dict[int, Message] = {}
        self._number = 0
        self._sent_at: Deque[float] = deque()
        self._room = 0
        self._greeting: Optional[Tuple[str, int]] = None
        self._history: Iterator[Message] = _NOTHING
        self._told_receipts: List[Tuple[int, str, bool]] = []
        self._next: Dict[str, float] = {}
        self._state: Dict[str, Any] = {}
        self._procs: Dict[int, Tuple[Any, ...]] = {}
        self._live: Optional[List[Any]] = []
        self._fresh = False
        self._ended = False
        self._closed = False
        self._thread: Optional[threading.Thread] = None
        self._unsubscribe = store.subscribe(self._notice)
        self._start()

    # --- any thread ---------------------------------------------------------------------------

    def receipt(self, cell: int, text: str, complete: bool) -> None:
        """What the barrier at the end of a cell has proved; sent behind the rows there are now."""
        message = Message({"type": "receipt", "cell": cell, "text": text, "complete": complete})
        with self._condition:
            self._receipts.pop(cell, None)
            self._receipts[cell] = message
            while len(self._receipts) > _MAX_RECEIPTS:
                del self._receipts[next(iter(self._receipts))]
            self._proofs.append((self._store.rows, message))
        self._wake()

    def changed(self) -> None:
        """The state has changed: tell it soon."""
        self._next["state"] = 0.0
        self._wake()

    def heard(self, port: Port, data: Mapping[str, Any]) -> None:
        """A browser asks. Requests that are not of this session, or not understood, are refused."""
        if data.get("logmesh") != 1 or data.get("session") != self.session:
            return
        kind, request = data.get("type"), str(data.get("id", ""))[:200]
        try:
            if kind == "hello":
                self._hello(port, request, _whole(data, "have"))
            elif kind == "fetch":
                first, end = _whole(data, "first"), _whole(data, "end")
                self._add(request, self._page(request, first, end, bool(data.get("whole"))))
            elif kind == "set_mode":
                text = self._source.set_mode(data)
                self.changed()
                self._reply(request, text=text)
            elif kind == "flush":
                self._source.flush(lambda text, error: self._reply(request, text, error))
            elif kind == "download":
                self._download(request, data)
            elif kind == "values":
                self._values(request, data)
            else:
                raise OptionError(f"there is no request {kind!r}")
        except (LogMeshError, RuntimeError, ValueError) as error:
            self._reply(request, error=str(error))

    def end_mesh(self) -> None:
        """The mesh has stopped: send what is left; from then on only what is asked for."""
        self._unsubscribe()
        with self._condition:
            self._ended = True
            self._next.clear()
            self._fresh = True
            self._condition.notify()
        self._join(_END_SEC)

    def close(self) -> None:
        """No more: the browsers are told, the thread ends."""
        self._unsubscribe()
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._join(_CLOSE_SEC)
        for port in self.ports:
            port.close()

    def _join(self, most_sec: float) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=most_sec)

    # --- requests -----------------------------------------------------------------------------

    def _hello(self, port: Port, request: str, have: int) -> None:
        """A page has come. Many hellos, to a kernel that was busy, are answered as one."""
        with self._condition:
            if not any_greeted(self.ports):
                self._sent_at.clear()  # what went out to nobody
            port.greeted = True
            earlier = have if self._greeting is None else self._greeting[1]
            self._greeting = (request, min(have, earlier))
        self._wake()

    def _greet(self) -> None:
        """In the sender's thread: tell state, procs and receipts anew, then the last lines."""
        with self._condition:
            greeting, self._greeting = self._greeting, None
            receipts = [
                (message.content["cell"], message.content["text"], message.content["complete"])
                for message in self._receipts.values()
            ]
        if greeting is None:
            return
        request, have = greeting
        self._state, self._procs, self._live = {}, {}, None
        self._next.clear()
        self._told_receipts = receipts
        self._feed.introduce()
        self._history = self._feed.history(have)
        self._reply(request)

    def _page(self, request: str, first: int, end: int, whole: bool) -> Iterator[Message]:
        stop = self._feed.next_page(first, end)
        yield from self._feed.page(first, stop, whole)
        yield Message({"type": "reply", "id": request, "ok": True, "next": stop})

    def _download(self, request: str, data: Mapping[str, Any]) -> None:
        file_format, ranks = str(data.get("format")), data.get("ranks")
        if ranks is not None and not (
            isinstance(ranks, list) and all(isinstance(rank, int) for rank in ranks)
        ):
            raise OptionError(f"ranks is {ranks!r:.80}; it must be a list of ranks")
        chosen: Optional[List[int]] = ranks
        of_cell = None if data.get("cell") is None else _whole(data, "cell")

        def make() -> None:
            try:
                name, mime, file = self._source.download(file_format, of_cell, chosen)
                self._add(request, _parts(request, name, mime, file))
            except Exception as error:  # noqa: BLE001 (told to who asked for it)
                self._reply(request, error=str(error) or type(error).__name__)

        threading.Thread(target=make, name="logmesh-download", daemon=True).start()

    def _values(self, request: str, data: Mapping[str, Any]) -> None:
        """What stands in a group's slots, over all its lines in the store; in a thread."""
        cell = None if data.get("cell") is None else _whole(data, "cell")
        key = GroupKey(
            _whole(data, "template"), OutputTarget(_whole(data, "target")),
            str(data.get("job", "")), cell,
        )  # fmt: skip
        first, end = _whole(data, "first"), _whole(data, "end")

        def look() -> None:
            try:
                (found,) = slot_values(self._store, [key], first, end, _VALUES_SEC)
                values = list(map(_slot, found.slots))
                self._reply(request, lines=found.lines, whole=found.whole, values=values)
            except Exception as error:  # noqa: BLE001 (told to who asked for it)
                self._reply(request, error=str(error) or type(error).__name__)

        if not self._values_worker.submit(look):
            raise OptionError(_TOO_MANY)

    def _reply(self, request: str, text: str = "", error: str = "", **more: Any) -> None:
        content: Dict[str, Any] = {"type": "reply", "id": request, "ok": not error, "text": text}
        content.update(more)
        if error:
            content["error"] = error
        with self._condition:
            self._replies.append(Message(content))
        self._wake()

    def _add(self, request: str, messages: Iterator[Message]) -> None:
        with self._condition:
            if len(self._work) >= _MAX_WAITING:
                raise OptionError(_TOO_MANY)
            self._work.append((request, messages))
        self._wake()

    # --- the thread ---------------------------------------------------------------------------

    def _notice(self) -> None:
        """The store has grown. On the client's loop, for each batch: mostly one comparison."""
        if not self._fresh:
            with self._condition:
                self._fresh = True
                self._condition.notify()

    def _wake(self) -> None:
        with self._condition:
            if self._thread is None and not self._closed:
                self._start()
            self._fresh = True
            self._condition.notify()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="logmesh-panel", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        waits = False
        while True:
            with self._condition:
                if waits and self._ended and not any_greeted(self.ports):
                    waits = False  # nobody listens; who comes later asks
                elif waits:
                    self._condition.wait_for(lambda: self._closed, _TICK_SEC)
                else:
                    self._condition.wait_for(lambda: self._fresh or self._ended, _IDLE_SEC)
                if self._closed or (self._ended and not waits and not self._fresh):
                    self._thread = None
                    return
                self._fresh = False
            try:
                waits = self._turn()
            except Exception as error:  # noqa: BLE001 (kept and told: the store must go on)
                self.error, waits = error, False

    def _turn(self) -> bool:
        """Send what may be sent now. True when something has to wait."""
        self._greet()
        now = self._clock.monotonic()
        while self._sent_at and self._sent_at[0] <= now - 1.0:
            self._sent_at.popleft()
        most = MAX_PER_SEC if any_greeted(self.ports) else _UNHEARD_PER_SEC
        self._room = most - len(self._sent_at)
        # Before the reply to who changed it, so that nobody shows the old state in between.
        waits = [self._send_state(), self._send_replies(), self._send_procs()]
        waits += [self._send_live(), self._send_rows(), self._send_work()]
        return any(waits)

    def _send(self, message: Message) -> None:
        self._number += 1
        content = {**message.content, "logmesh": 1, "session": self.session, "n": self._number}
        for port in open_ports(self.ports):
            port.send(content, message.payload)
            self._room -= 1
            self._sent_at.append(self._clock.monotonic())

    def _due(self, name: str, every: float) -> bool:
        """Whether it is time, and there is room, for a message of a kind; counts it as sent.

        ``every`` 0: it is time.
        """
        now = self._clock.monotonic()
        if self._room < 1 or (every and now < self._next.get(name, 0.0)):
            return False
        self._next[name] = now + every
        return True

    def _send_state(self) -> bool:
        if not self._ended and self._clock.monotonic() < self._next.get("state", 0.0):
            return False
        state = {"type": "state", **self._source.state(), "firstRow": self._feed.first_row}
        if state == self._state:
            self._next["state"] = self._clock.monotonic() + _STATE_SEC
            return False
        if not self._due("state", _STATE_SEC):
            return True
        self._state = state
        told = {"receipts": self._told_receipts} if self._told_receipts else {}
        self._told_receipts = []
        self._send(Message({**state, "rows": self._store.rows, **told}))
        return False

    def _send_procs(self) -> bool:
        if not self._due("procs", _PROCS_SEC):
            return False
        found = {row[0]: row for row in self._source.procs()}
        changed = [row for proc, row in found.items() if self._procs.get(proc) != row]
        full = not self._procs or not self._procs.keys() <= found.keys()
        if changed or full:
            self._procs = found
            rows = list(found.values()) if full else changed
            now = self._clock.wall()
            self._send(Message({"type": "procs", "full": full, "now": now, "procs": rows}))
        return False

    def _send_live(self) -> bool:
        lines = self._store.open_lines()
        now = [(line.info.proc, line.target, line.cell, line.text) for line in lines]
        if now == self._live:
            return False
        # What a barrier has ended must not stand there as unfinished.
        if not self._due("live", 0.0 if self._proofs else _LIVE_SEC):
            return True
        self._live = now
        self._send(live_message(lines))
        return False

    def _send_rows(self) -> bool:
        """The new rows, and the receipts behind those that they prove."""
        every = _ROWS_SEC * (2 if self._work or self._history is not _NOTHING else 1)
        if self._feed.behind and (self._may_burst() or self._due("rows", every)):
            message = self._feed.live()
            if message is not None:
                self._send(message)
        while self._proofs and self._proofs[0][0] <= self._feed.cursor and self._room >= 1:
            self._send(self._proofs.popleft()[1])
        return self._feed.behind or bool(self._proofs)

    def _may_burst(self) -> bool:
        """A cell has ended: show all of it at once where there is room."""
        return bool(self._proofs) and self._room >= 2

    def _send_replies(self) -> bool:
        while self._replies and self._room >= 1:
            self._send(self._replies.popleft())
        return bool(self._replies)

    def _send_work(self) -> bool:
        """What a page that has come should see, then pages and files: a message of each in turn."""
        if self._history is not _NOTHING and self._due("history", _ROWS_SEC):
            message = next(self._history, None)
            if message is None:
                self._history = _NOTHING
            else:
                self._send(message)
        if self._work and self._due("work", _ROWS_SEC if self._feed.behind else 0.1):
            request, messages = self._work.popleft()
            try:
                message = next(messages, None)
            except Exception as error:  # noqa: BLE001 (told to who asked for it)
                self._reply(request, error=f"{type(error).__name__}: {error}")
                message = None
            if message is not None:
                self._send(message)
                self._work.append((request, messages))
        return bool(self._work) or self._history is not _NOTHING


def _whole(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise OptionError(f"{name} is {value!r:.80}; it must be a whole number, 0 or more")
    return value


def _slot(slot: Union[NumberSlot, TextSlot]) -> Tuple[Any, ...]:
    """``SlotTuple`` of the protocol."""
    if isinstance(slot, NumberSlot):
        return (
            "#", slot.count, _finite(slot.least), slot.least_rank, _finite(slot.median),
            _finite(slot.most), slot.most_rank,
        )  # fmt: skip
    top = [(text[:_MAX_VALUE], count, ranks) for text, count, ranks in slot.top]
    return ("*", slot.distinct, top)


def _finite(number: float) -> float:
    """A number that JSON has: too many digits are no reason to tell nothing."""
    return max(-_MOST, min(_MOST, number))


def _parts(request: str, name: str, mime: str, file: IO[bytes]) -> Iterator[Message]:
    """A file in messages, and the reply that ends it."""
    with file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        parts = max(1, -(-size // _PART_BYTES))
        for part in range(parts):
            content = {
                "type": "file", "id": request, "part": part, "parts": parts, "name": name,
                "mime": mime,
            }  # fmt: skip
            yield Message(content, file.read(_PART_BYTES))
    yield Message({"type": "reply", "id": request, "ok": True, "text": name})
