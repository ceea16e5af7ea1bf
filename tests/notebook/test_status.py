"""``%logmesh status --json`` in a real kernel: an object for programs; its sums hold under load."""

from __future__ import annotations

import ast
import os
import re
import signal
import time
from typing import Any, Dict, List

import pytest

from logmesh_ipy._version import __version__
from tests.notebook.conftest import Kernel, KernelMaker, mesh_processes
from tests.support import wait_until

pytestmark = pytest.mark.notebook

STATUS = "status = %logmesh status --json"
KEYS = {
    "version", "time", "versions", "mesh", "mode", "ledger", "procs", "gaps", "barrier", "refused",
    "warnings",
}  # fmt: skip
FLOOD = (
    "%%logmesh run\n"
    "import sys, threading\n"
    "def flood(stream):\n"
    "    for number in range({lines}): stream.write(f'line {{number}} of many\\n')\n"
    "for stream in (sys.stdout, sys.stderr):\n"
    "    threading.Thread(target=flood, args=(stream,), daemon=True).start()"
)


def status_of(kernel: Kernel) -> Dict[str, Any]:
    """The object, as it comes out of the kernel's own JSON."""
    cell = kernel.run(f"{STATUS}\nimport json\nassert json.loads(json.dumps(status)) == status")
    assert cell.reply["status"] == "ok", cell.error
    found: Dict[str, Any] = ast.literal_eval(kernel.value("status"))
    return found


def check_sums(status: Dict[str, Any]) -> None:
    """Of each stream, and of all; and all is the sum of the streams."""
    streams = [stream for proc in status["procs"] for stream in proc["streams"].values()]
    for ledger in [status["ledger"], *streams]:
        for unit in ("lines", "bytes"):
            parts = ledger[unit]
            assert set(parts) == {"written", "stored", "skipped", "gap", "in_flight"}
            assert min(parts.values()) >= 0, parts
            rest = parts["stored"] + parts["skipped"] + parts["gap"] + parts["in_flight"]
            assert parts["written"] == rest, parts
    for unit, parts in status["ledger"].items():
        for part, count in parts.items():
            assert count == sum(stream[unit][part] for stream in streams)


@pytest.mark.parametrize("loop", ["thread", "kernel"])
def test_the_sums_hold_under_load(kernels: KernelMaker, loop: str) -> None:
    lines = 100_000
    kernel = kernels(f"--loop {loop} --view plain")
    kernel.run(FLOOD.format(lines=lines))
    seen: List[Dict[str, Any]] = []
    while not seen or seen[-1]["ledger"]["lines"]["stored"] < 4 * lines:
        seen.append(status_of(kernel))
        check_sums(seen[-1])
        assert len(seen) < 2_000
    stored = [status["ledger"]["lines"]["stored"] for status in seen]
    assert stored == sorted(stored)
    assert len(set(stored)) > 2, "it was not looked at under load"
    kernel.run("report = %logmesh flush")
    status = status_of(kernel)
    check_sums(status)
    size = 4 * sum(len(f"line {number} of many\n") for number in range(lines))
    for unit, count in (("lines", 4 * lines), ("bytes", size)):
        parts = status["ledger"][unit]
        assert (parts["written"], parts["stored"], parts["in_flight"]) == (count, count, 0)
    text = kernel.run("%logmesh status").stdout
    assert f"lines: {4 * lines:,} written = {4 * lines:,} stored + 0 skipped + 0 gap + 0 in" in text


def test_it_has_what_its_format_says(kernels: KernelMaker) -> None:
    kernel = kernels("--window 3 --level WARNING")
    kernel.run("%logmesh exec -- sh -c 'echo of a job; exit 3'")
    kernel.run("%%logmesh run\nprint('of a proc')")
    kernel.run("%logmesh flush")
    status = status_of(kernel)
    assert set(status) == KEYS
    assert status["version"] == 1
    assert abs(status["time"] - time.time()) < 60
    assert status["versions"]["logmesh_ipy"] == __version__
    assert {"python", "ipykernel", "msgpack", "pyarrow"} <= set(status["versions"])
    assert status["mode"] == {
        "stream": True, "window_sec": 3.0, "level": 30, "level_name": "WARNING",
        "autoflush": True, "loop": "thread", "grouping": "similar",
    }  # fmt: skip
    mesh = status["mesh"]
    assert (mesh["state"], mesh["procs"], mesh["alive"], mesh["reason"]) == ("running", 2, 2, "")
    procs = status["procs"]
    told = [(proc["rank"], bool(proc["job"]), proc["state"], proc["exit_code"]) for proc in procs]
    assert told == [
        (0, False, "running", None), (1, False, "running", None),
        (0, True, "exited", 3), (1, True, "exited", 3),
    ]  # fmt: skip
    for proc in procs[:2]:
        assert proc["forwarder"] == "hosted"
        assert proc["pid"] > 1
        assert not proc["late"]
        assert proc["streams"]["stdout"]["lines"]["stored"] == 1
        assert proc["streams"]["stdout"]["host"]["unacked_bytes"] >= 0
    assert status["barrier"]["complete"]
    assert status["barrier"]["acked"] == ["rank 0", "rank 1"]
    assert (status["gaps"], status["refused"], status["warnings"]) == ([], {}, [])
    assert kernel.run("%logmesh status --json").result is not None
    assert kernel.run("%logmesh status").result is None
    assert "--json" in kernel.complete("%logmesh status --")
    assert "--json" in kernel.run("%logmesh status?").stdout


def test_skipped_lines_and_a_late_proc_are_told(kernels: KernelMaker) -> None:
    kernel = kernels("")
    kernel.run("%logmesh set_mode --no-stream")
    kernel.run("%%logmesh run\nfor i in range(50): print(i)")
    status = status_of(kernel)
    check_sums(status)
    assert status["ledger"]["lines"]["skipped"] == 100
    assert status["mode"]["stream"] is False
    pid = status["procs"][1]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        kernel.run("report = %logmesh flush --timeout 0.5")
        status = status_of(kernel)
        assert [proc["late"] for proc in status["procs"]] == [False, True]
        assert status["barrier"]["late"] == ["rank 1"]
        assert not status["barrier"]["complete"]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_bootstrap_that_does_not_answer_is_told_and_one_that_is_lost(
    kernels: KernelMaker,
) -> None:
    kernel = kernels("")
    kernel.run("%%logmesh run\nprint('before')")
    (bootstrap,) = [
        pid for pid, line in mesh_processes(kernels.directory).items() if "bootstrap" in line
    ]
    os.kill(bootstrap, signal.SIGSTOP)
    try:
        began = time.monotonic()
        status = status_of(kernel)
        assert time.monotonic() - began < 15
        (warning,) = status["warnings"]
        assert "has not answered within 2 s" in warning
        assert status["ledger"]["lines"]["stored"] == 2
        assert warning in kernel.run("%logmesh status").stdout
    finally:
        os.kill(bootstrap, signal.SIGCONT)
    wait_until(lambda: not status_of(kernel)["warnings"])
    os.kill(bootstrap, signal.SIGKILL)
    wait_until(lambda: status_of(kernel)["mesh"]["state"] == "lost")
    wait_until(lambda: len(status_of(kernel)["gaps"]) == 4)
    status = status_of(kernel)
    check_sums(status)
    assert "is gone" in status["mesh"]["reason"]
    assert {proc["state"] for proc in status["procs"]} == {"lost"}
    assert {gap["lines"] for gap in status["gaps"]} == {None}
    text = kernel.run("%logmesh status").stdout
    assert len(re.findall(r"^gap: rank \d, std\w+: unknown: ", text, re.MULTILINE)) == 4
