"""Two ends of a ResumableLink over connections that break, double, replay and hold back frames."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Deque, List, Optional

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from logmesh_ipy.errors import ProtocolError
from logmesh_ipy.frames import FrameDecoder
from logmesh_ipy.resumable import WINDOW_BYTES, ResumableLink
from logmesh_ipy.wire import Event, Message, Ping, Received, encode

BIG = b"x" * 900_000


class Wire:
    """One direction of one connection: the frames that are under way."""

    def __init__(self) -> None:
        self.frames: Deque[bytes] = deque()

    def send_bytes(self, data: bytes) -> None:
        self.frames.append(data)


class End:
    """A link, what it sent, and what it took."""

    def __init__(self) -> None:
        self.sent: List[int] = []
        self.taken: List[int] = []
        self.link = ResumableLink(self.take)
        self.wire: Optional[Wire] = None

    def take(self, message: Message) -> None:
        assert isinstance(message, Event)
        self.taken.append(message.args["n"])

    def send(self, blob: bytes = b"") -> None:
        self.sent.append(len(self.sent))
        self.link.send(Event(name="e", args={"n": self.sent[-1], "blob": blob}))

    def receive(self, data: bytes) -> None:
        for kind, body in FrameDecoder().feed(data):
            self.link.receive(kind, body)


class BrokenLinks(RuleBasedStateMachine):
    """``ends[i]`` writes to ``wires[i]``, which the other one reads."""

    @initialize()
    def make(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.ends = (End(), End())
        self.wires = (Wire(), Wire())
        self.seen: List[List[bytes]] = [[], []]
        self.up = False

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.reconcile()
            self.loop.close()

    def on_loop(self, call: object) -> None:
        async def run() -> None:
            call()  # type: ignore[operator]

        self.loop.run_until_complete(run())

    @rule(end=st.integers(0, 1), big=st.booleans())
    def send(self, end: int, big: bool) -> None:
        self.on_loop(lambda: self.ends[end].send(BIG if big else b""))

    @precondition(lambda self: not self.up)
    @rule()
    def connect(self) -> None:
        self.wires = (Wire(), Wire())
        self.up = True
        for end, wire in zip(self.ends, self.wires, strict=True):
            self.on_loop(lambda end=end, wire=wire: end.link.connected(wire))  # type: ignore[misc]

    @precondition(lambda self: self.up)
    @rule(told=st.sampled_from([(0, 1), (0,), (1,)]))
    def cut(self, told: object) -> None:
        """Both ends notice, or one of them notices only the next connection."""
        self.up = False
        for number in told:  # type: ignore[attr-defined]
            self.on_loop(self.ends[number].link.disconnected)

    @precondition(lambda self: self.up)
    @rule(end=st.integers(0, 1), count=st.integers(1, 6))
    def deliver(self, end: int, count: int) -> None:
        wire = self.wires[end]
        for _ in range(min(count, len(wire.frames))):
            data = wire.frames.popleft()
            self.seen[end].append(data)
            self.on_loop(lambda data=data: self.ends[1 - end].receive(data))  # type: ignore[misc]

    @precondition(lambda self: self.up and any(self.seen))
    @rule(end=st.integers(0, 1), data=st.data())
    def replay(self, end: int, data: st.DataObject) -> None:
        """A frame of any earlier time: nothing happens, or the connection breaks."""
        if self.seen[end]:
            frame = data.draw(st.sampled_from(self.seen[end]))
            self.hostile(end, frame)

    @precondition(lambda self: self.up)
    @rule(end=st.integers(0, 1))
    def reorder(self, end: int) -> None:
        frames = self.wires[end].frames
        if len(frames) >= 2:
            frames[0], frames[1] = frames[1], frames[0]
            self.hostile(end, frames.popleft())

    @precondition(lambda self: self.up)
    @rule(end=st.integers(0, 1))
    def leave_out(self, end: int) -> None:
        """What the sender tells next, at the latest a second later, gives it away."""
        wire = self.wires[end]
        if wire.frames:
            wire.frames.popleft()
            wire.frames.clear()
            self.on_loop(self.ends[end].link._tell)
            self.hostile(end, wire.frames.popleft())

    def hostile(self, end: int, frame: bytes) -> None:
        try:
            self.on_loop(lambda: self.ends[1 - end].receive(frame))
        except ProtocolError:
            self.cut((0, 1))

    @invariant()
    def what_was_taken_is_a_prefix_of_what_was_sent(self) -> None:
        if hasattr(self, "ends"):
            for end, other in (self.ends, self.ends[::-1]):
                assert end.taken == other.sent[: len(end.taken)]

    @invariant()
    def the_window_is_kept(self) -> None:
        if hasattr(self, "ends"):
            for end in self.ends:
                assert sum(map(len, end.link._sent)) == end.link._sent_bytes <= WINDOW_BYTES

    def reconcile(self) -> None:
        """One whole connection, and all has arrived."""
        if self.up:
            self.cut((0, 1))
        self.connect()
        while any(wire.frames for wire in self.wires):
            for number in (0, 1):
                self.deliver(number, 100)
        for end, other in (self.ends, self.ends[::-1]):
            # Beyond the window nothing goes before the other end has told; its timer does.
            while len(end.taken) < len(other.sent):
                self.on_loop(end.link._tell)
                self.deliver(0, 100)
                self.deliver(1, 100)
            assert end.taken == other.sent


def test_each_message_is_taken_once_and_in_order_whatever_breaks() -> None:
    run_state_machine_as_test(
        BrokenLinks, settings=settings(max_examples=200, stateful_step_count=40, deadline=None)
    )


def receive(link: ResumableLink, message: Message) -> None:
    data = encode(message)
    link.receive(data[4], data[5:])


def test_a_count_that_cannot_be_and_a_message_without_number_break_the_connection() -> None:
    async def main() -> None:
        link = ResumableLink(lambda message: None)
        link.connected(Wire())
        for wrong in (
            Received(count=1, sent=0),
            Received(count=0, sent=1),
            Event(name="e", args={}),
        ):
            with pytest.raises(ProtocolError):
                receive(link, wrong)
        receive(link, Ping(n=0))
        receive(link, Received(count=0, sent=0))
        link.disconnected()

    asyncio.run(main())


@pytest.mark.parametrize("lost", [0, 1])
def test_a_greeting_that_was_left_out_is_told_again(lost: int) -> None:
    async def main() -> None:
        ends = (End(), End())
        wires = (Wire(), Wire())
        for end, wire in zip(ends, wires, strict=True):
            end.link.connected(wire)
        wires[lost].frames.clear()
        asks, answers = ends[1 - lost], ends[lost]
        asks.send()
        deadline = asyncio.get_running_loop().time() + 10
        while not answers.taken and asyncio.get_running_loop().time() < deadline:
            for end, wire in zip(ends, wires[::-1], strict=True):
                while wire.frames:
                    end.receive(wire.frames.popleft())
            await asyncio.sleep(0.01)
        assert answers.taken == [0]
        for end in ends:
            end.link.disconnected()

    asyncio.run(main())


def test_what_does_not_fit_a_frame_is_refused_and_leaves_no_hole() -> None:
    async def main() -> None:
        one, two = End(), End()
        wires = (Wire(), Wire())
        for end, wire in zip((one, two), wires, strict=True):
            end.link.connected(wire)
        for size in (2 << 20, (1 << 20) - 20):
            with pytest.raises(ProtocolError):
                one.link.send(Event(name="e", args={"n": 0, "b": b"x" * size}))
        one.send()
        for _ in range(3):
            for end, wire in ((two, wires[0]), (one, wires[1])):
                while wire.frames:
                    end.receive(wire.frames.popleft())
        assert two.taken == [0]

    asyncio.run(main())
