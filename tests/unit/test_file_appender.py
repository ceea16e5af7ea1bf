from __future__ import annotations

import os
import re
import resource
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logmesh_ipy import file_appender
from logmesh_ipy.errors import OptionError
from logmesh_ipy.file_appender import FileAppender, check_directory
from logmesh_ipy.model import OutputTarget


class ManualClock:
    """Time stands still unless a test moves it."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


Make = Callable[..., FileAppender]


@pytest.fixture
def make(tmp_path: Path, clock: ManualClock) -> Iterator[Make]:
    made = []

    def factory(directory: object = tmp_path / "logs", **options: object) -> FileAppender:
        names = {"basename": "train", "hostname": "node1", "target": OutputTarget.STDOUT}
        appender = FileAppender(str(directory), clock=clock, **{**names, **options})  # type: ignore[arg-type]
        made.append(appender)
        return appender

    yield factory
    for appender in made:
        appender.close()
        assert appender.appended_bytes == appender.written_bytes + appender.failed_bytes


def test_the_name_says_what_host_and_stream(make: Make, tmp_path: Path) -> None:
    one, other = make(), make(target=OutputTarget.STDERR)
    names = sorted(os.listdir(tmp_path / "logs"))
    assert [os.path.basename(one.path), os.path.basename(other.path)] == sorted(
        names, key=lambda name: name.endswith("stderr")
    )
    assert re.fullmatch(r"train_node1_[0-9a-f]{8}\.stdout", os.path.basename(one.path))
    assert re.fullmatch(r"train_node1_[0-9a-f]{8}\.stderr", os.path.basename(other.path))


def test_a_given_short_id_is_in_the_name(make: Make) -> None:
    assert os.path.basename(make(uuid="cafe0123").path) == "train_node1_cafe0123.stdout"


def test_every_byte_is_kept(make: Make) -> None:
    appender = make()
    parts = [bytes(range(256)), b"", b"no newline", b"\r\n\x00\xff", os.urandom(100_000)]
    for part in parts:
        appender.append(part)
    assert Path(appender.path).read_bytes() == b"".join(parts)
    assert appender.failed_bytes == 0
    assert appender.warning is None


def test_only_the_owner_can_read_file_and_directory(make: Make) -> None:
    before = os.umask(0)
    try:
        appender = make()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(appender.path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(appender.directory).st_mode) == 0o700


def test_the_file_descriptor_is_not_inherited(make: Make) -> None:
    appender = make()
    assert not os.get_inheritable(appender._fd)


@pytest.mark.parametrize("kind", ["symlink", "dangling", "file"])
def test_nothing_that_exists_is_opened(make: Make, tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    if kind != "dangling":
        victim.write_bytes(b"precious")
    planted = tmp_path / "train_node1_cafe0123.stdout"
    if kind == "file":
        planted.write_bytes(b"precious")
    else:
        planted.symlink_to(victim)
    appender = make(tmp_path, uuid="cafe0123")
    appender.append(b"lines\n")
    assert victim.exists() == (kind != "dangling")
    if kind != "dangling":
        assert victim.read_bytes() == b"precious"
    assert Path(appender.path) != planted
    assert Path(appender.path).read_bytes() == b"lines\n"


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("../../etc/cron.d/x", "____etc_cron.d_x"),
        ("..", "_"),
        ("a/b", "a_b"),
        ("a\0b", "a_b"),
        ("a b\n\x1b[31m{}%s", "a_b___31m___s"),
        (".hidden", "hidden"),
        ("über", "_ber"),
        ("", "log"),
        ("x" * 5000, "x" * 100),
        ("node-1.example.org", "node-1.example.org"),
    ],
)
def test_names_are_cleaned(make: Make, tmp_path: Path, given_name: str, kept: str) -> None:
    appender = make(basename=given_name, hostname=given_name, uuid=given_name or "0")
    appender.append(b"x")
    [name] = os.listdir(tmp_path / "logs")
    assert os.path.samefile(appender.path, tmp_path / "logs" / name)
    assert appender.failed_bytes == 0
    assert name.startswith(f"{kept}_{'host' if kept == 'log' else kept}_")


@given(st.text(max_size=300))
def test_any_name_is_one_plain_file_name(text: str) -> None:
    cleaned = file_appender._clean(text, "log")
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", cleaned)
    assert ".." not in cleaned


def test_a_full_file_moves_on_and_the_oldest_goes(make: Make) -> None:
    appender = make(max_bytes=10, backups=2)
    for letter in b"abcde":
        appender.append(bytes([letter]) * 8)
    files = {name[len(os.path.basename(appender.path)) :]: (Path(appender.directory) / name)
             for name in os.listdir(appender.directory)}  # fmt: skip
    assert {suffix: path.read_bytes() for suffix, path in files.items()} == {
        "": b"e" * 8, ".1": b"d" * 8, ".2": b"c" * 8,
    }  # fmt: skip
    assert appender.rotated_away_bytes == 16
    assert appender.failed_bytes == 0
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files.values())


def test_without_backups_only_the_file_stays(make: Make) -> None:
    appender = make(max_bytes=10, backups=0)
    for letter in b"abc":
        appender.append(bytes([letter]) * 8)
    assert os.listdir(appender.directory) == [os.path.basename(appender.path)]
    assert Path(appender.path).read_bytes() == b"c" * 8
    assert appender.rotated_away_bytes == 16


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(1, 30), st.integers(0, 4))
def test_the_files_are_the_end_of_what_was_written(
    parts: list[bytes], max_bytes: int, backups: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        appender = FileAppender(
            directory, "b", "h", OutputTarget.STDERR, max_bytes=max_bytes, backups=backups
        )
        for part in parts:
            appender.append(part)
        appender.close()
        paths = [f"{appender.path}.{n}" for n in range(backups, 0, -1)] + [appender.path]
        contents = [Path(path).read_bytes() for path in paths if os.path.exists(path)]
        assert len(os.listdir(directory)) == len(contents)
        everything, kept = b"".join(parts), b"".join(contents)
        assert everything.endswith(kept)
        assert len(everything) == len(kept) + appender.rotated_away_bytes
        assert max(map(len, contents)) <= max_bytes
        assert appender.failed_bytes == 0


def test_a_removed_file_is_made_again(make: Make) -> None:
    appender = make()
    appender.append(b"before")
    os.unlink(appender.path)
    appender.append(b"after")
    assert Path(appender.path).read_bytes() == b"after"
    shutil.rmtree(appender.directory)
    appender.append(b"again")
    assert Path(appender.path).read_bytes() == b"again"
    assert appender.failed_bytes == 0


def test_trouble_is_counted_told_once_and_over_when_the_disk_is_back(
    make: Make, tmp_path: Path, clock: ManualClock
) -> None:
    blocker = tmp_path / "logs"
    blocker.write_bytes(b"a file where the directory should be")
    appender = make()
    assert appender.troubles == 1
    for _ in range(5):
        appender.append(b"x" * 1000)
        clock.now += 1.5
    assert appender.failed_bytes == 5000
    assert appender.troubles == 1
    warning = appender.warning
    assert warning is not None
    assert appender.path in warning
    assert "5,000 bytes not written" in warning
    blocker.unlink()
    appender.append(b"back")
    assert Path(appender.path).read_bytes() == b"back"
    assert appender.failed_bytes == 5000
    assert appender.warning == warning + ", writing again"
    shutil.rmtree(blocker)
    blocker.write_bytes(b"")
    appender.append(b"yy")
    assert appender.troubles == 2
    assert "; 2 bytes not written" in str(appender.warning)
    blocker.unlink()


def test_a_disk_in_trouble_is_asked_once_a_second(
    make: Make, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = tmp_path / "logs"
    blocker.write_bytes(b"")
    appender = make()
    asked = []
    real = os.makedirs
    monkeypatch.setattr(
        file_appender.os, "makedirs", lambda *a, **k: (asked.append(a), real(*a, **k))
    )
    for _ in range(400):
        appender.append(b"x")
        clock.now += 0.01
    assert 3 <= len(asked) <= 4
    assert appender.failed_bytes == 400


def test_a_write_that_the_system_cuts_short_is_counted_to_the_byte(
    make: Make, clock: ManualClock
) -> None:
    appender = make()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        appender.append(b"a" * 600)
        appender.append(b"b" * 600)
        appender.append(b"c" * 600)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert Path(appender.path).read_bytes() == b"a" * 600 + b"b" * 400
    assert appender.failed_bytes == 800
    assert "File too large" in str(appender.warning)
    clock.now += 1
    appender.append(b"d")
    assert Path(appender.path).read_bytes() == b"a" * 600 + b"b" * 400 + b"d"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_costs_bytes_and_nothing_else(
    small_disk: Path, make: Make, clock: ManualClock
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 49152)
    appender = make(small_disk)
    appender.append(b"a" * 10_000)
    appender.append(b"b" * 30_000)
    kept = os.stat(appender.path).st_size
    assert kept == appender.written_bytes < 40_000
    assert appender.failed_bytes == 40_000 - kept
    assert "No space left on device" in str(appender.warning)
    ballast.unlink()
    clock.now += 1
    appender.append(b"c" * 100)
    assert Path(appender.path).read_bytes()[-101:] == b"b" + b"c" * 100
    assert str(appender.warning).endswith("writing again")


def test_a_read_only_disk_costs_bytes_and_nothing_else(
    small_disk: Path, make: Make, clock: ManualClock
) -> None:
    appender = make(small_disk, max_bytes=10, backups=2)
    appender.append(b"a" * 8)
    appender.append(b"b" * 8)
    subprocess.run(["umount", "-l", str(small_disk)], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(small_disk)], check=True)
    appender.close()
    other = make(small_disk)
    other.append(b"x")
    assert "Read-only file system" in str(other.warning)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    clock.now += 1
    other.append(b"y")
    assert Path(other.path).read_bytes() == b"y"


@pytest.mark.parametrize("call", ["rename", "open"])
@pytest.mark.parametrize("failing_call", [1, 2, 3])
def test_a_rotation_that_fails_anywhere_loses_no_backup(
    make: Make, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, call: str, failing_call: int
) -> None:
    appender = make(max_bytes=10, backups=3)
    for letter in b"abc":
        appender.append(bytes([letter]) * 8)
    real, calls = getattr(os, call), []

    def fail(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == failing_call:
            raise PermissionError(1, "Operation not permitted")
        return real(*args, **options)

    monkeypatch.setattr(file_appender.os, call, fail)
    appender.append(b"d" * 8)
    monkeypatch.undo()
    failed = appender.failed_bytes
    assert failed == (8 if len(calls) >= failing_call else 0)
    clock.now += 1
    appender.append(b"e" * (0 if not failed else 8))
    paths = [f"{appender.path}.{n}" for n in (3, 2, 1)] + [appender.path]
    kept = b"".join(Path(path).read_bytes() for path in paths)
    assert kept == b"".join(bytes([letter]) * 8 for letter in (b"abce" if failed else b"abcd"))
    assert appender.rotated_away_bytes == 0


def test_what_comes_after_close_is_counted(make: Make) -> None:
    appender = make()
    appender.append(b"kept")
    appender.close()
    appender.close()
    assert appender.warning is None
    appender.append(b"late")
    assert Path(appender.path).read_bytes() == b"kept"
    assert appender.failed_bytes == 4
    assert "the file is closed" in str(appender.warning)


@pytest.mark.parametrize("options", [{"max_bytes": 0}, {"backups": -1}])
def test_impossible_limits_are_refused(make: Make, options: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="max_bytes >= 1 and backups >= 0"):
        make(**options)


def test_a_good_directory_is_made_and_left_empty(tmp_path: Path) -> None:
    check_directory(str(tmp_path / "a" / "b"))
    check_directory(str(tmp_path / "a" / "b"))
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) & 0o077 == 0
    assert os.listdir(tmp_path / "a" / "b") == []


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path, reason in [
        (str(tmp_path / "file"), "it is not a directory"),
        (str(tmp_path / "file" / "sub"), "Not a directory"),
        ("/proc/nowhere", "No such file or directory"),
        ("/proc", "No such file or directory"),
        ("/dev/null", "it is not a directory"),
        (str(tmp_path / ("x" * 300)), "File name too long"),
        ("", "must be a path"),
        ("a\0b", "must be a path"),
    ]:
        with pytest.raises(OptionError, match=reason) as caught:
            check_directory(path)
        assert repr(path) in str(caught.value)


def test_a_full_disk_is_refused(small_disk: Path) -> None:
    with open(small_disk / "ballast", "wb", buffering=0) as ballast:
        ballast.write(b"x" * 65536)
    with pytest.raises(OptionError, match="No space left on device"):
        check_directory(str(small_disk))
