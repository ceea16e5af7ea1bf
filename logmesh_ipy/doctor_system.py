"""Checks of the machine and its settings: temporary directory, limits, clock, variables."""

from __future__ import annotations

import contextlib
import difflib
import os
import resource
import shutil
import socket
import stat
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Any, List, Optional, Tuple

from .config import ENVIRONMENT_PREFIX, MAX_PROCS, HostOptions, MeshOptions
from .crashed_sessions import saved_sessions
from .errors import OptionError
from .findings import Finding, fail, ok, warn
from .procs import COMMAND_VARIABLE, SESSION_VARIABLE
from .runtime_directory import ended_sessions
from .settings import LogMesh

__all__ = [
    "check_clock",
    "check_limits",
    "check_sessions",
    "check_temporary_directory",
    "check_variables",
]

_TEMPORARY = "temp. files"
_MAX_SOCKET_PATH_BYTES = 107
_LONGEST_SOCKET = f"/h999/p{MAX_PROCS * 10}-999.sock"
_MOVE = "set TMPDIR to a directory of a local disk with a short name, such as /tmp, and start anew"
_LITTLE_BYTES = 1 << 30
_FILES_OF_ALL = 64
_FILES_PER_PROC = 4
_PIDS_PER_PROC = 4
_FEW_PROCS = 64
_CLOCK_BEGINS = 1_735_689_600  # 2025
_CLOCK_ENDS = 4_102_444_800  # 2100
_FOREIGN_DISKS = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre", "9p")
_OURS = {SESSION_VARIABLE, COMMAND_VARIABLE}
_TESTS = (f"{ENVIRONMENT_PREFIX}TEST_", f"{ENVIRONMENT_PREFIX}BROWSER_")


def check_temporary_directory() -> List[Finding]:
    """Whether sessions can have their sockets and files there, for this user only."""
    found = []
    try:
        directory = tempfile.gettempdir()
    except FileNotFoundError as error:
        return [fail(_TEMPORARY, f"there is no directory to write to: {error}", _MOVE)]
    wished = os.environ.get("TMPDIR")
    if wished and not _same_directory(wished, directory):
        text = f"TMPDIR is {wished!r}, where {_why_not(wished)}; {directory} is used in its place"
        found.append(warn(_TEMPORARY, text, "make that directory, or unset TMPDIR, and start anew"))
    problem = _try_session(directory)
    if problem:
        return [*found, fail(_TEMPORARY, f"{directory}: {problem}", _MOVE)]
    free = shutil.disk_usage(directory).free
    kind = _file_system(directory)
    told = f"{directory} ({kind}, {free >> 20:,} MB free)"
    if kind in _FOREIGN_DISKS:
        found.append(warn(_TEMPORARY, f"{told} is on another machine: slow, or it may hang", _MOVE))
    elif free < _LITTLE_BYTES:
        text = f"{told} has little room for what a slow notebook leaves waiting"
        found.append(warn(_TEMPORARY, text, f"remove what is not needed there, or {_MOVE}"))
    else:
        found.append(ok(_TEMPORARY, told))
    return found


def _try_session(directory: str) -> str:
    """Make what a session makes; why that fails, or nothing."""
    longest = len(os.fsencode(f"{directory}/logmesh-XXXXXXXX{_LONGEST_SOCKET}"))
    if longest > _MAX_SOCKET_PATH_BYTES:
        return (
            f"its name is {longest - _MAX_SOCKET_PATH_BYTES} bytes too long: sockets in it would "
            f"have {longest}, and the system allows {_MAX_SOCKET_PATH_BYTES}"
        )
    try:
        place = tempfile.mkdtemp(prefix="logmesh-part-", dir=directory)
    except OSError as error:
        return f"no directory can be made: {error.strerror}"
    try:
        os.chmod(place, stat.S_IRWXU)
        mode = stat.S_IMODE(os.stat(place).st_mode)
        if mode != stat.S_IRWXU:
            return f"a directory gets mode {mode:04o}, and not 0700: others could read it"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{place}/d.sock")
        with open(f"{place}/lines", "wb") as file:
            file.write(bytes(1 << 16))
    except OSError as error:
        return f"no sockets and files can be made: {error.strerror}"
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return ""


def check_limits() -> List[Finding]:
    """For how many procs the limits on files and processes are enough."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes, who = _process_limit()
    by_files = MAX_PROCS if files < 0 else (files - _FILES_OF_ALL) // _FILES_PER_PROC
    by_processes = MAX_PROCS if processes is None else processes // _PIDS_PER_PROC
    most = max(0, min(by_files, by_processes, MAX_PROCS))
    told = f"{_number(files)} open files, {_number(processes)} processes{who}"
    if most >= _FEW_PROCS:
        return [ok("limits", f"{told}: enough for {most:,} procs")]
    remedy = "raise `ulimit -Hn`" if by_files <= by_processes else "raise the limit on processes"
    return [warn("limits", f"{told}: enough for {most:,} procs at most", remedy)]


def check_clock() -> List[Finding]:
    """The wall clock, which lines are marked with; deadlines do not depend on it."""
    now = time.time()
    told = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))
    if _CLOCK_BEGINS <= now <= _CLOCK_ENDS:
        return [ok("clock", told)]
    return [warn("clock", f"it says {told}: so will all lines", "set the machine's clock")]


def check_sessions() -> List[Finding]:
    """What sessions have left that ended without a chance to clean up."""
    found = []
    stale = ended_sessions()
    if stale:
        text = f"{len(stale)} ended without a chance to clean up: {', '.join(stale[:3])}"
        found.append(warn("sessions", text, "nothing: the next start of a mesh removes them"))
    try:
        crashed = [session for session in saved_sessions() if not session.running]
    except OptionError as error:
        return [*found, fail("sessions", str(error), "choose another store_directory")]
    if crashed:
        names = ", ".join(session.name for session in crashed[:3])
        text = f"the lines of {len(crashed)} crashed kernels are kept: {names}"
        found.append(
            ok("sessions", f"{text}; `logmesh_ipy.reopen(name)` opens them")
        )  # fmt: skip
    return found or [ok("sessions", "none has left anything")]


def check_variables(shell: Any = None) -> List[Finding]:
    """``LOGMESH_*`` and the configuration: no name misspelt, no value that is not allowed."""
    settings = LogMesh(parent=shell) if shell is not None else LogMesh()
    known = {f.name for f in (*fields(MeshOptions), *fields(HostOptions))} - {"host"}
    known |= set(settings.trait_names(config=True))
    variables = sorted(
        name
        for name in os.environ
        if name.startswith(ENVIRONMENT_PREFIX) and name not in _OURS and not name.startswith(_TESTS)
    )
    found: List[Finding] = []
    for name in variables:
        option = name[len(ENVIRONMENT_PREFIX) :].lower()
        if name != ENVIRONMENT_PREFIX + option.upper() or option not in known:
            close = difflib.get_close_matches(option, sorted(known), 1)
            remedy = f"write {ENVIRONMENT_PREFIX}{close[0].upper()}" if close else "remove it"
            found.append(warn("variables", f"{name} is no option, and does nothing", remedy))
    try:
        settings.options({})
        settings.receipt_policy()
        settings.view_in_force(None)
    except OptionError as error:
        remedy = "mend the variable, or the configuration (c.LogMesh)"
        found.append(fail("variables", str(error), remedy))
    told = ", ".join(variables) or "none set"
    return found or [ok("variables", told)]


def _process_limit() -> Tuple[Optional[int], str]:
    """How many more processes may be, and a word on who says so; None where nothing does."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    found: List[Tuple[int, str]] = []
    if soft >= 0 and os.geteuid() != 0:  # it does not hold for the superuser
        found.append((soft, ""))
    with contextlib.suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text(encoding="utf-8").split("::", 1)[1].strip()
        place = Path("/sys/fs/cgroup", group.lstrip("/"))
        most = int((place / "pids.max").read_text(encoding="utf-8"))
        now = int((place / "pids.current").read_text(encoding="utf-8"))
        found.append((most - now, " (control group)"))
    return min(found) if found else (None, "")


def _number(limit: Optional[int]) -> str:
    return "any number of" if limit is None or limit < 0 else f"{limit:,}"


def _same_directory(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _why_not(directory: str) -> str:
    if not os.path.exists(directory):
        return "there is nothing"
    if not os.path.isdir(directory):
        return "there is no directory"
    return "nothing can be written"


def _file_system(path: str) -> str:
    """The kind of file system that a path is on; empty where the system does not say."""
    best, kind = "", ""
    real = os.path.realpath(path)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
            _, place, name, *_ = line.split(" ")
            inside = real == place or real.startswith(place.rstrip("/") + "/")
            if inside and len(place) >= len(best):
                best, kind = place, name
    return kind
