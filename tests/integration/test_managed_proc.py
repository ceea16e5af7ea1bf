"""A proc's output while its bootstrap has no descriptors, or no directory to serve in."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from logmesh_ipy import procs
from logmesh_ipy.addresses import socket_path
from logmesh_ipy.config import HostOptions
from logmesh_ipy.errors import TransportError
from logmesh_ipy.log_forward_actor import LogForwardActor
from logmesh_ipy.managed_proc import ManagedProc
from logmesh_ipy.redaction import Rules
from tests.integration.conftest import MeshMaker, run_async, texts, until
from tests.integration.test_bootstrap import bootstrap_pid, sources
from tests.support import wait_until


def test_commands_that_could_not_be_adopted_at_once_are_adopted_later(start: MeshMaker) -> None:
    count = 6
    mesh = start(count)
    bootstrap = bootstrap_pid(mesh)
    assert mesh.flush(10).get(20)
    before = resource.prlimit(bootstrap, resource.RLIMIT_NOFILE)
    # Enough to start all, not to forward for all.
    limit = len(os.listdir(f"/proc/{bootstrap}/fd")) + 20
    resource.prlimit(bootstrap, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        job = mesh.exec(["sh", "-c", "echo hello $RANK; sleep 60"]).get(10)
        wait_until(lambda: sum(s["streams"]["stdout"]["lines"] for s in sources(mesh)) == count)
        own = [mesh.host_status().get(5)[str(source)] for source in job.rank_of]
        assert not all(status["adopted"] for status in own), "descriptors are short"
    finally:
        resource.prlimit(bootstrap, resource.RLIMIT_NOFILE, before)
    hello = [f"hello {rank}" for rank in range(count)]
    wait_until(lambda: sorted(texts(mesh)) == hello, what="they are adopted")
    # And the bootstrap still serves those that come after.
    later = mesh.exec(["sh", "-c", "echo second $RANK"]).get(10)
    assert not any(later.wait().get(10).values())
    assert mesh.flush(10).get(20)
    assert sorted(texts(mesh)) == [*hello, *(f"second {rank}" for rank in range(count))]


def test_an_adopted_forwarder_whose_address_cannot_be_served_is_made_again(
    start: MeshMaker, nothing_is_left: str
) -> None:
    mesh = start(1)
    (channel,) = Path(nothing_is_left).rglob("p0.sock")
    directory = channel.parent
    os.chmod(directory, 0o777)  # What others can write to is not served in.
    try:
        job = mesh.exec(["sh", "-c", "echo hello; sleep 60"]).get(10)
        (source,) = job.rank_of
        wait_until(lambda: sources(mesh)[-1]["streams"]["stdout"]["lines"] == 1)
        assert not mesh.host_status().get(5)[str(source)]["adopted"]
    finally:
        os.chmod(directory, 0o700)
    wait_until(lambda: texts(mesh) == ["hello"], what="its output is told")
    assert mesh.flush(10).get(20)


def test_a_forwarder_that_must_not_serve_elsewhere_says_why_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        fatal: List[Exception] = []
        actor = LogForwardActor(f"unix:{tmp_path}/missing/p0.sock", proc=0, on_fatal=fatal.append)
        with pytest.raises(TransportError, match="cannot serve"):
            await actor.start(elsewhere=False)
        actor.close()
        assert fatal == []

    run_async(main)
    assert os.listdir(tempfile.gettempdir()) == []


@pytest.fixture
def no_descriptors() -> Iterator[Callable[[], None]]:
    """A call that takes all descriptors of this process; they are given back after the test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: List[int] = []

    def take() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return

    yield take
    for fd in taken:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_forwarder_without_descriptors_leaves_no_directory(
    tmp_path: Path, no_descriptors: Callable[[], None]
) -> None:
    async def main() -> None:
        no_descriptors()
        actor = LogForwardActor(f"unix:{tmp_path}/p0.sock", proc=0)
        with pytest.raises(TransportError):
            await actor.start()
        tried.append(Path(socket_path(actor.address)).parent)
        assert is_there(), "another address was tried"
        actor.close()
        assert not is_there()

    tried: List[Path] = []

    def is_there() -> bool:
        return tried[0] != tmp_path and tried[0].is_dir()

    run_async(main)


def managed(spawned: procs.Spawned, directory: str, **options: Any) -> ManagedProc:
    return ManagedProc(
        spawned, proc=0, rank=0, address=f"unix:{directory}/p0.sock",
        adopted_address=lambda generation: f"unix:{directory}/p0-{generation}.sock",
        hostname=socket.gethostname(), options=HostOptions(**options), spool_directory=directory,
        make_uplink=lambda *_, **__: pytest.fail("nothing is adopted"), tees={},
        rules=Rules((), [b"correct horse"]), on_finished=lambda _: None,
    )  # fmt: skip


def test_what_fails_of_one_proc_is_told_once_and_redacted(
    nothing_is_left: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        spawned = procs.spawn(["true"], os.environ, None)
        one = managed(spawned, nothing_is_left)
        for _ in range(2):
            with one.guarded():
                raise RuntimeError("correct horse")
        (warning,) = one.status()["warnings"]
        assert warning == "its output is at risk: RuntimeError: [redacted]"
        with pytest.raises(asyncio.CancelledError), one.guarded():
            raise asyncio.CancelledError
        one.close()
        await until(lambda: os.waitpid(spawned.pid, os.WNOHANG)[0])

    run_async(main)
    told = capfd.readouterr().err
    assert told.count("Traceback") == told.count("\nRuntimeError: [redacted]") == 1


def test_what_is_discarded_has_ended_and_holds_no_pipe() -> None:
    async def main() -> None:
        spawned = procs.spawn(["sh", "-c", "sleep 60 & sleep 60"], os.environ, None)
        spawned.discard()
        await until(lambda: os.waitpid(spawned.pid, os.WNOHANG)[0])
        for fd in (spawned.stdout, spawned.stderr):
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)

    run_async(main)


def test_what_cannot_be_killed_is_given_up_after_a_while() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        spawned = procs.spawn(["sleep", "60"], os.environ, None)
        began = loop.time()
        beats = 0

        def beat() -> None:
            nonlocal beats
            beats += 1
            loop.call_later(0.01, beat)

        beat()
        # A zombie: what is killed and not waited for stays.
        assert await procs.terminate(lambda: [spawned.pid], 0.0) == 1
        assert 0.3 < loop.time() - began < 10
        assert beats > 10, "the loop goes on meanwhile"
        await until(lambda: os.waitpid(spawned.pid, os.WNOHANG)[0])
        for fd in (spawned.stdout, spawned.stderr):
            os.close(fd)

    run_async(main)
