from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import List

import pytest

from logmesh_ipy.actor import Actor


@dataclass(frozen=True)
class Say:
    text: str


@dataclass(frozen=True)
class Fail:
    text: str


class Recorder(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.heard: List[str] = []
        self.threads: List[int] = []
        self.depth = 0
        self.on(Say, self._say)
        self.on(Fail, self._fail)

    def _say(self, message: Say) -> None:
        self.depth += 1
        assert self.depth == 1, "one handler runs at a time"
        self.heard.append(message.text)
        self.threads.append(threading.get_ident())
        if message.text == "first":
            self.tell(Say("third"))
            self.tell(Say("fourth"))
            self.heard.append("second")
        self.depth -= 1

    def _fail(self, message: Fail) -> None:
        self.tell(Say("behind"))
        raise ValueError(message.text)


async def settled(actor: Recorder, count: int) -> None:
    async with asyncio.timeout(10):
        while len(actor.heard) < count:  # noqa: ASYNC110 (what sets it is under test)
            await asyncio.sleep(0)


def test_messages_are_handled_at_once_in_order_and_never_inside_each_other() -> None:
    async def scenario() -> List[str]:
        actor = Recorder()
        actor.tell(Say("first"))
        return actor.heard

    assert asyncio.run(scenario()) == ["first", "second", "third", "fourth"]


def test_a_message_of_another_class_is_refused_where_it_is_told() -> None:
    async def scenario() -> None:
        actor = Recorder()
        with pytest.raises(TypeError, match=r"Recorder does not handle str"):
            actor.tell("text")
        with pytest.raises(TypeError, match=r"Recorder does not handle int"):
            actor.tell_from_thread(5)
        assert actor.heard == []

    asyncio.run(scenario())


def test_what_other_threads_tell_is_handled_on_the_loop_in_their_order() -> None:
    async def scenario() -> None:
        actor = Recorder()

        def speak(name: str) -> None:
            for number in range(100):
                actor.tell_from_thread(Say(f"{name}{number}"))

        threads = [threading.Thread(target=speak, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        await settled(actor, 200)
        for thread in threads:
            thread.join()
        for name in "ab":
            own = [text for text in actor.heard if text.startswith(name)]
            assert own == [f"{name}{number}" for number in range(100)]
        assert set(actor.threads) == {threading.get_ident()}

    asyncio.run(scenario())


def test_a_handler_that_fails_tells_its_caller_and_stops_nobody_behind_it() -> None:
    async def scenario() -> None:
        actor = Recorder()
        with pytest.raises(ValueError, match="broken"):
            actor.tell(Fail("broken"))
        await settled(actor, 1)
        assert actor.heard == ["behind"]
        actor.tell(Say("on"))
        assert actor.heard == ["behind", "on"]

    asyncio.run(scenario())
