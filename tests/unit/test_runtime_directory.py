"""The session's directory: held while anybody of it lives, swept when nobody does."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator, List

import pytest

from logmesh_ipy.runtime_directory import RuntimeDirectory, hold, sweep_stale

OLD_SEC = 3600


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory of the test's own; short, since it holds sockets."""
    with tempfile.TemporaryDirectory(prefix="lmr-", dir="/tmp") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        monkeypatch.setenv("TMPDIR", directory)
        yield Path(directory)


def made(place: Path, name: str, *, age_sec: float = OLD_SEC, mode: int = 0o700) -> Path:
    """A directory with something in it that nobody has touched for so long."""
    path = place / name
    path.mkdir()
    (path / "kept").write_text("x")
    path.chmod(mode)
    os.utime(path, (time.time() - age_sec, time.time() - age_sec))
    return path


def left_by_a_killed_process() -> str:
    """A directory whose holder was killed."""
    source = (
        "import time\nfrom logmesh_ipy.runtime_directory import RuntimeDirectory\n"
        "made = RuntimeDirectory()\nprint(made.path, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        path = process.stdout.readline().decode().strip()
        assert sweep_stale() == []
        process.kill()
    return path


def test_it_is_private_held_and_removed_with_all_that_it_holds(place: Path) -> None:
    directory = RuntimeDirectory()
    assert stat.S_IMODE(os.stat(directory.path).st_mode) == 0o700
    (Path(directory.path) / "h1").mkdir()
    assert sweep_stale() == []
    directory.remove()
    directory.remove()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_swept() -> None:
    path = left_by_a_killed_process()
    assert os.path.isdir(path)
    assert sweep_stale() == [os.path.basename(path)]
    assert not os.path.exists(path)


def test_it_is_held_while_one_bootstrap_lives() -> None:
    path = left_by_a_killed_process()
    bootstraps = hold(path)
    assert bootstraps is not None
    assert sweep_stale() == []
    os.close(bootstraps)
    assert sweep_stale() == [os.path.basename(path)]


def test_a_forked_child_that_lives_on_does_not_hold_it() -> None:
    directory = RuntimeDirectory()
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        directory.let_go()  # as the system does for a process that was killed
        deadline = time.monotonic() + 10
        while not sweep_stale():  # the child may not have begun yet
            assert time.monotonic() < deadline
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not os.path.exists(directory.path)


def test_processes_that_outlived_their_session_are_killed() -> None:
    path = left_by_a_killed_process()
    os.mkdir(f"{path}/h3")
    environ = {**os.environ, "LOGMESH_SESSION": f"{os.path.basename(path)}-h3"}
    with subprocess.Popen(["sleep", "60"], env=environ) as orphan:
        assert sweep_stale() == [os.path.basename(path)]
        assert orphan.wait(5) == -signal.SIGKILL


def test_only_what_is_old_and_ours_is_swept(place: Path) -> None:
    aside = made(place, "aside")
    (place / "logmesh-link0000").symlink_to(aside)
    kept = [
        made(place, "logmesh-analysis"),  # a user's own, by chance of that name
        made(place, "logmesh-part-12345678", age_sec=5),
        made(place, "logmesh-any-12345678", age_sec=5),
        made(place, "logmesh-part-87654321", mode=0o755),
        made(place, "logmesh-store-12345678"),
        made(place, "other-12345678"),
    ]
    stale = [made(place, "logmesh-part-abcdefgh"), made(place, "logmesh-any-abcdefgh")]
    assert sorted(sweep_stale()) == sorted(path.name for path in stale)
    assert all((path / "kept").exists() for path in [*kept, aside])
    assert not any(path.exists() for path in stale)


def test_a_linked_lock_is_not_followed(place: Path) -> None:
    lock = place / "lock"
    lock.write_text("")
    path = made(place, "logmesh-12345678")
    (path / "session.lock").symlink_to(lock)
    assert sweep_stale() == []
    assert path.exists()


def test_an_address_of_its_own_that_is_served_stays(place: Path) -> None:
    path = made(place, "logmesh-any-12345678")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{path}/forwarder.sock")
        os.utime(path, (0, 0))
        server.listen()
        assert sweep_stale() == []
    assert sweep_stale() == [path.name]


RACE = """
import os, sys, time
from logmesh_ipy.runtime_directory import RuntimeDirectory, sweep_stale
end = time.monotonic() + float(sys.argv[1])
count = 0
while time.monotonic() < end:
    directory = RuntimeDirectory()
    os.mkdir(directory.path + "/h1")
    sweep_stale()
    assert os.path.isdir(directory.path + "/h1"), "a living one was swept"
    directory.let_go() if count % 3 == 0 else directory.remove()
    count += 1
print(count)
"""


def test_sessions_that_begin_end_and_sweep_at_the_same_time_leave_each_other_alone(
    place: Path,
) -> None:
    processes: List[subprocess.Popen[bytes]] = [
        subprocess.Popen([sys.executable, "-c", RACE, "1.0"], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    counts = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert min(counts) > 3
    sweep_stale()
    assert list(place.iterdir()) == []
