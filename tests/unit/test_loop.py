from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import socket
import threading
import time
from typing import Callable, Iterator, List

import pytest

from logmesh_ipy.errors import LoopBlockedError, MeshStateError
from logmesh_ipy.loop import MeshLoop, PythonTask


@pytest.fixture
def loop() -> Iterator[MeshLoop]:
    before = set(threading.enumerate())
    made = MeshLoop()
    yield made
    made.close()
    assert set(threading.enumerate()) <= before  # those of earlier tests may end meanwhile


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        threading.Event().wait(0.001)


async def forever() -> None:
    await asyncio.Event().wait()


async def add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


def test_a_result_can_be_got_where_nothing_can_be_awaited(loop: MeshLoop) -> None:
    task = loop.submit(add(2, 3))
    assert task.get() == 5
    assert task.done()
    assert task.get(0) == 5
    assert "done" in repr(task)


def test_a_result_can_be_awaited_from_another_loop(loop: MeshLoop) -> None:
    async def elsewhere() -> List[int]:
        one = await loop.submit(add(1, 1))
        both = await asyncio.gather(loop.submit(add(1, 2)), loop.submit(add(1, 3)))
        task = loop.submit(add(1, 4))
        return [one, *both, await task, await task]

    assert asyncio.run(elsewhere()) == [2, 3, 4, 5, 5]


def test_a_result_can_be_awaited_on_its_own_loop(loop: MeshLoop) -> None:
    async def inside() -> int:
        return await loop.submit(add(4, 5))

    assert loop.submit(inside()).get(10) == 9


def test_it_runs_without_being_waited_for(loop: MeshLoop) -> None:
    ran = threading.Event()

    async def work() -> None:
        ran.set()

    loop.submit(work())
    assert ran.wait(10)


def test_the_wait_ends_at_its_timeout_and_the_work_goes_on(loop: MeshLoop) -> None:
    go = asyncio.Event()

    async def work() -> str:
        await go.wait()
        return "done"

    task = loop.submit(work())
    with pytest.raises(TimeoutError, match=r"no result within 0\.01 seconds"):
        task.get(0.01)
    assert not task.done()
    assert "running" in repr(task)
    loop.call(go.set)
    assert task.get(10) == "done"


def test_an_error_of_the_work_is_raised_where_it_is_waited_for(loop: MeshLoop) -> None:
    async def fail(error: Exception) -> None:
        raise error

    async def elsewhere() -> None:
        await loop.submit(fail(KeyError("awaited")))

    with pytest.raises(KeyError, match="got"):
        loop.submit(fail(KeyError("got"))).get()
    with pytest.raises(KeyError, match="awaited"):
        asyncio.run(elsewhere())
    with pytest.raises(TimeoutError, match="its own"):
        loop.submit(fail(TimeoutError("its own"))).get(10)


def test_blocking_on_the_loop_that_makes_the_result_is_an_error_at_once(loop: MeshLoop) -> None:
    async def inside() -> str:
        task = loop.submit(add(1, 1))
        with pytest.raises(LoopBlockedError, match="await"):
            task.get()
        with pytest.raises(LoopBlockedError):
            task.get(timeout=1)
        await task
        return f"then {task.get()}"

    assert loop.submit(inside()).get(10) == "then 2"


def test_blocking_on_a_borrowed_loop_is_an_error_at_once() -> None:
    async def kernel() -> int:
        borrowed = MeshLoop(asyncio.get_running_loop())
        assert not borrowed.own_thread
        task = borrowed.submit(add(1, 1))
        with pytest.raises(LoopBlockedError):
            task.get()
        result = await task
        borrowed.close()
        return result + await borrowed.submit(add(0, 1))

    before = set(threading.enumerate())
    assert asyncio.run(kernel()) == 3
    assert set(threading.enumerate()) <= before


def test_a_signals_handler_may_leave_work_to_a_borrowed_loop_that_rests() -> None:
    async def kernel() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        borrowed = MeshLoop(loop)
        before = signal.signal(signal.SIGUSR1, lambda *_: loop.call_soon(done.set))
        late = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        late.start()
        try:
            began = time.monotonic()
            await asyncio.wait_for(done.wait(), 20)
            assert time.monotonic() - began < 10
        finally:
            late.join()
            signal.signal(signal.SIGUSR1, before)
            borrowed.close()
            borrowed.close()
        assert signal.set_wakeup_fd(-1) == -1

    asyncio.run(kernel())


def test_another_wakeup_of_signals_is_left_alone() -> None:
    async def kernel() -> None:
        theirs, other = socket.socketpair()
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        MeshLoop(asyncio.get_running_loop()).close()
        assert signal.set_wakeup_fd(-1) == theirs.fileno()
        theirs.close()
        other.close()

    asyncio.run(kernel())


def test_blocking_in_another_running_loop_is_allowed(loop: MeshLoop) -> None:
    async def kernel() -> int:
        return loop.submit(add(1, 1)).get(10)

    assert asyncio.run(kernel()) == 2


def test_cancelling_stops_the_work(loop: MeshLoop) -> None:
    stopped = threading.Event()

    async def work() -> None:
        try:
            await forever()
        finally:
            stopped.set()

    task: PythonTask[None] = loop.submit(work())
    started = loop.submit(add(0, 0))
    started.get(10)
    assert task.cancel()
    assert stopped.wait(10)
    with pytest.raises(concurrent.futures.CancelledError):
        task.get(10)
    assert not started.cancel()


def test_call_runs_on_the_loops_thread(loop: MeshLoop) -> None:
    names: List[str] = []
    loop.call(lambda suffix: names.append(threading.current_thread().name + suffix), "!")
    wait_until(lambda: bool(names))
    assert names == ["logmesh-client!"]


def test_closing_leaves_no_thread_and_no_waiter_behind() -> None:
    before = set(threading.enumerate())
    loop = MeshLoop()
    tasks = [loop.submit(forever()) for _ in range(50)]
    loop.close()
    assert set(threading.enumerate()) <= before
    for task in tasks:
        with pytest.raises(concurrent.futures.CancelledError):
            task.get(1)
    loop.close()
    assert loop.loop.is_closed()


def test_a_closed_loop_refuses_work_in_words() -> None:
    loop = MeshLoop()
    loop.close()
    with pytest.raises(MeshStateError, match="closed"):
        loop.submit(add(1, 1))


def test_a_loop_may_be_closed_from_its_own_thread() -> None:
    before = set(threading.enumerate())
    loop = MeshLoop()

    async def work() -> None:
        loop.close()

    loop.submit(work())
    wait_until(lambda: set(threading.enumerate()) <= before)
    loop.close()
    assert loop.loop.is_closed()
