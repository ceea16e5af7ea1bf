"""A search runs in threads: in order, no further ahead than it may, and whoever waits can stop."""

from __future__ import annotations

import asyncio
import io
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from logmesh_ipy import log_workers
from logmesh_ipy.errors import MeshStateError
from logmesh_ipy.log_workers import LogTask, in_order
from logmesh_ipy.logs import Logs
from logmesh_ipy.model import LogMessage, OutputTarget, ProcInfo
from logmesh_ipy.store import LogStore

ROOT = Path(__file__).resolve().parents[2]
LINE = b"step 123: loss 0.4321, lr 3e-05, tokens/s 123456.7, mem 12.3 GiB, grad norm 1.2\n"


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def search_threads() -> List[threading.Thread]:
    return [thread for thread in threading.enumerate() if "logmesh-search" in thread.name]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    until(lambda: not search_threads())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """300,000 lines, nearly all of them in the file."""
    made = LogStore(memory_bytes=1 << 20, directory=str(tmp_path))
    info = ProcInfo(proc=0, rank=0, hostname="host", pid=1)
    for _ in range(300):
        data = LINE * 1000
        log = LogMessage.Log(
            proc=0, epoch=1, generation=1, output_target=OutputTarget.STDOUT, seq=0, offset=0,
            size=len(data), lines=1000, wall=1.0, mono=1.0, pid=1, hostname="host",
            ends_line=True, payload=data,
        )  # fmt: skip
        made.append(info, log)
    yield made
    made.close()


@pytest.fixture
def logs(store: LogStore) -> Logs:
    return Logs(store, lambda: None, 1)


# --- in order ---------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_items_whatever_takes_longer() -> None:
    started: List[int] = []
    turns = {number: threading.Event() for number in range(20)}

    def work(number: int) -> int:
        started.append(number)
        if number % 2 == 0:  # ends after the one behind it
            assert turns[number + 1].wait(20)
        turns[number].set()
        return number

    assert list(in_order(work, iter(range(20)))) == list(range(20))
    assert sorted(started) == list(range(20))


def test_items_are_taken_little_before_their_turn() -> None:
    taken: List[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    for number in in_order(lambda item: item, items()):
        assert len(taken) <= number + 2 + log_workers._AHEAD
    assert len(taken) == 100


def test_a_single_item_is_worked_on_where_it_is() -> None:
    here = threading.current_thread()
    assert list(in_order(lambda _: threading.current_thread(), iter([1]))) == [here]
    assert here not in list(in_order(lambda _: threading.current_thread(), iter([1, 2])))
    assert list(in_order(lambda item: item, iter([]))) == []


def test_an_error_is_raised_in_its_turn_and_nothing_goes_on() -> None:
    done: List[int] = []

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("the third")
        done.append(number)
        return number

    found = in_order(work, iter(range(1000)))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(found)
    until(lambda: not search_threads())
    assert len(done) < 20


def test_who_stops_reading_ends_the_threads(logs: Logs) -> None:
    rows = iter(logs)
    assert next(rows).row == 0
    assert search_threads()
    del rows
    until(lambda: not search_threads())


# --- tasks ------------------------------------------------------------------------------------


def test_a_search_is_awaited_while_the_loop_runs_on(logs: Logs) -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        assert await logs.count() == 300_000
        assert await logs.where(matches=r"norm 1\.2$").count() == 300_000
        assert ticks > 100
        table = await logs.where(contains="norm").collect()
        assert table["row"].to_pylist() == list(range(300_000))
        assert table.schema == logs[:1].to_arrow().schema
        ticker.cancel()

    asyncio.run(main())


def test_a_task_has_a_result_for_who_cannot_await(logs: Logs) -> None:
    task = logs.where(contains="norm 2").collect()
    assert task.get(60).num_rows == 0
    assert task.done()
    assert task.get() is task.get()
    assert not task.cancel()
    assert repr(task) == "<LogTask done; `await` it, or call .get()>"


def endless(taken: List[int], go: threading.Event) -> Iterator[int]:
    while go.wait(20):
        taken.append(1)
        yield 1


def task_of(parts: Iterator[int]) -> LogTask[int]:
    return LogTask((part for part in parts), sum)


def test_a_result_that_takes_longer_is_a_timeout_and_runs_on() -> None:
    taken: List[int] = []
    go = threading.Event()
    task = task_of(endless(taken, go))
    with pytest.raises(TimeoutError, match=r"no result within 0\.01 seconds"):
        task.get(0.01)
    assert not task.done()
    assert "running" in repr(task)
    go.set()
    until(lambda: len(taken) > 3)
    assert task.cancel()
    with pytest.raises(CancelledError):
        task.get(10)


def test_a_timeout_of_the_search_itself_is_raised_as_it_is() -> None:
    def parts() -> Iterator[int]:
        yield 1
        raise TimeoutError("the file system's")

    with pytest.raises(TimeoutError, match="the file system's"):
        task_of(parts()).get(10)


def test_cancelling_who_awaits_stops_the_reading(logs: Logs, store: LogStore) -> None:
    reads: List[int] = []
    read = store.read_run

    def slow_read(first_row: int, max_rows: int) -> object:
        reads.append(first_row)
        return read(first_row, min(max_rows, 1000))

    store.read_run = slow_read  # type: ignore[method-assign, assignment]

    async def main() -> None:
        waiting = asyncio.ensure_future(logs.where(matches="nan").count())
        await asyncio.to_thread(until, lambda: len(reads) >= 10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    until(lambda: not search_threads())
    assert len(reads) < 300


def test_an_error_is_raised_where_it_is_waited_for(logs: Logs, store: LogStore) -> None:
    store.close()
    with pytest.raises(MeshStateError, match="store was closed"):
        logs.where(matches="x").count().get(10)

    async def main() -> None:
        with pytest.raises(MeshStateError, match="store was closed"):
            await logs.collect()

    asyncio.run(main())


INTERRUPTED = """
import dataclasses, time
from logmesh_ipy.logs import Logs
from tests.unit.test_log_workers import LINE, search_threads, until
from logmesh_ipy.store import LogStore
from logmesh_ipy.model import LogMessage, OutputTarget, ProcInfo

store, info = LogStore(memory_bytes=1 << 20), ProcInfo(proc=0, rank=0, hostname="h", pid=1)
for _ in range(300):
    data = LINE * 1000
    store.append(info, LogMessage.Log(
        proc=0, epoch=1, generation=1, output_target=OutputTarget.STDOUT, seq=0, offset=0,
        size=len(data), lines=1000, wall=1.0, mono=1.0, pid=1, hostname="h", ends_line=True,
        payload=data))
read, reads = store.read_run, []
def again(first_row, max_rows):  # a store that goes on and on
    reads.append(first_row)
    if len(reads) == 5:
        print("searching", flush=True)
    run = read(first_row % 290_000, 10_000)
    first = run.heads[0].first_row
    heads = [dataclasses.replace(h, first_row=first_row + h.first_row - first) for h in run.heads]
    return run._replace(heads=heads)
store.read_run, store.rows = again, 10**12
logs = Logs(store, lambda: None, 1).where(matches=r"loss .*nan")
try:
    WAIT
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
until(lambda: not search_threads())
print("ended", flush=True)
"""


@pytest.mark.parametrize("wait", ["len(logs)", "list(logs)", "logs.count().get()"])
def test_an_interrupt_ends_a_search_at_once(wait: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.replace("WAIT", wait)], cwd=ROOT,
        stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert isinstance(child.stdout, io.TextIOBase)
        try:
            assert child.stdout.readline() == "searching\n"
            sent = time.monotonic()
            child.send_signal(signal.SIGINT)
            raised = float(child.stdout.readline())
            assert raised - sent < 10  # the search would take days
            assert child.stdout.readline() == "ended\n"
        finally:
            child.kill()
