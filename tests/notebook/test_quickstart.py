"""The quickstart, executed as a reader would: each cell's output stands under that cell."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support import session_processes

pytestmark = pytest.mark.notebook

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
_RECEIPT = re.compile(r"^(\d+)/(\d+) procs, ([\d,]+) lines?, (\S+) lost.*$", re.MULTILINE)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Shown:
    """What a cell shows, as text."""

    def __init__(self, cell: Any) -> None:
        self.outputs: List[Any] = cell.outputs
        self.displays = [
            output["data"]["text/plain"]
            for output in cell.outputs
            if output["output_type"] == "display_data" and "text/plain" in output["data"]
        ]
        self.errors = [out for out in cell.outputs if out["output_type"] == "error"]
        self.result = "".join(
            output["data"]["text/plain"]
            for output in cell.outputs
            if output["output_type"] == "execute_result"
        )
        self.text = "".join(out["text"] for out in cell.outputs if out["output_type"] == "stream")

    @property
    def lines(self) -> List[str]:
        """The procs' lines, without the receipt."""
        rows = [row for display in self.displays for row in display.split("\n")]
        return [row for row in rows if not _RECEIPT.match(row)]

    @property
    def receipt(self) -> str:
        (found,) = (match[0] for match in _RECEIPT.finditer("\n".join(self.displays)))
        return found

    def of(self, prefix: str) -> List[str]:
        """The lines of one source, such as ``[2 err]``."""
        return [row[len(prefix) + 1 :] for row in self.lines if row.startswith(prefix + " ")]


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    """A temporary directory that kernels and meshes use, and the package on their path."""
    directory = tempfile.mkdtemp(prefix="lmt-", dir="/tmp")  # short: it holds socket paths
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", directory)
        path = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{path}".rstrip(os.pathsep))
        patch.setenv("IPYTHONDIR", f"{directory}/ipython")
        yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def cells(place: str) -> Dict[str, Shown]:
    """The executed cells by id."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    began = time.monotonic()
    NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": place}}
    ).execute()
    assert time.monotonic() - began < 40  # on a busy machine; it takes six seconds
    return {cell.id: Shown(cell) for cell in notebook.cells if cell.cell_type == "code"}


def test_only_the_cell_that_is_meant_to_fail_fails(cells: Dict[str, Shown]) -> None:
    assert {name for name, shown in cells.items() if shown.errors} == {"fail"}
    assert not any("UsageError" in shown.text for shown in cells.values())


def test_no_cell_has_lost_a_line(cells: Dict[str, Shown]) -> None:
    receipts = [
        match for shown in cells.values() for display in shown.displays
        for match in _RECEIPT.finditer(display)
    ]  # fmt: skip
    assert len(receipts) >= 9
    assert [match[0] for match in receipts if match[1] != match[2] or match[4] != "0"] == []


def test_the_mesh_starts(cells: Dict[str, Shown]) -> None:
    assert cells["start"].text.startswith("4 procs on ")


def test_each_rank_says_hello_under_the_cell_that_asked(cells: Dict[str, Shown]) -> None:
    shown = cells["hello"]
    assert sorted(shown.lines) == [f"[{rank}] rank {rank} of 4 is here" for rank in range(4)]
    assert shown.receipt == "4/4 procs, 4 lines, 0 lost"
    assert shown.text == "Out[0-3]: 4\n"


def test_what_c_code_children_and_warnings_write_is_there(cells: Dict[str, Shown]) -> None:
    shown = cells["anything"]
    assert shown.of("[0]") == ["straight to the file descriptor"]
    assert shown.of("[1]") == ["C's printf, without a newline"]
    assert shown.of("[2]") == ["from a child process"]
    assert shown.of("[2 err]") == ["and its stderr"]
    warnings = "\n".join(shown.of("[3 err]"))
    assert "UserWarning: the learning rate is rather high" in warnings
    assert "RuntimeWarning: overflow encountered in exp" in warnings


def test_the_ranks_reach_each_other(cells: Dict[str, Shown]) -> None:
    assert cells["allreduce"].text == "Out[0-3]: 6\n"
    assert len(cells["allreduce"].lines) == 4


def test_the_loss_falls_and_the_progress_bar_is_one_line(cells: Dict[str, Shown]) -> None:
    shown = cells["train"]
    for rank in (1, 2, 3):
        losses = [float(row.rpartition(" ")[2]) for row in shown.of(f"[{rank} err]")]
        assert len(losses) == 3
        assert losses[0] > losses[1] > losses[2] > 0
    assert shown.of("[0 err]") == [f"training 100% |{'#' * 30}|"]
    assert re.fullmatch(r"Out\[0-3\]: 0\.\d+\n", shown.text)
    assert "below the level" not in "\n".join(shown.lines)


def test_with_a_window_all_ranks_are_one_line(cells: Dict[str, Shown]) -> None:
    shown = cells["grouped"]
    assert re.match(r">>> Aggregated Logs \(.*, \d+ lines\) >>>", shown.lines[0])
    counted: Dict[str, int] = {}
    for row in shown.lines:
        match = re.fullmatch(r"\[(\S+)(?: err)?(?: ([\d,]+)×)?\] (.*)", row)
        if match:
            times = int(match[2].replace(",", "")) if match[2] else 1
            counted[f"{match[1]} {match[3]}"] = counted.get(f"{match[1]} {match[3]}", 0) + times
    assert counted["1-3 INFO:train:epoch <#>: my loss <#>, of all <#>"] == 36
    assert counted["0-3 my accuracy is <#>%"] == 12
    assert counted["0-3 trained"] == 4
    assert re.fullmatch(r"Out\[0-3\]: \(True, 0\.\d+, 0\.9\d*\)\n", shown.text)


def test_the_failing_cell_names_rank_2_and_brings_its_traceback(cells: Dict[str, Shown]) -> None:
    shown = cells["fail"]
    (error,) = shown.errors
    assert error["ename"] == "MeshError"
    assert error["evalue"].startswith("rank 2 of 4 failed: ValueError: loss is nan: rows [7]")
    traceback = _ANSI.sub("", "\n".join(error["traceback"]))
    assert "[rank 2] traceback on the proc:" in traceback
    assert "raise ValueError(" in traceback
    assert sorted(shown.lines) == [f"[{rank}] data in order, loss low" for rank in (0, 1, 3)]


def test_the_cells_after_the_failure_work(cells: Dict[str, Shown]) -> None:
    assert cells["repair"].lines == ["[2] repaired 1 row"]
    assert re.fullmatch(r"Out\[0-3\]: 0\.9\d*\n", cells["again"].text)


def test_commands_have_their_ranks_variables(cells: Dict[str, Shown]) -> None:
    assert sorted(cells["exec"].lines) == [
        f"[{rank} job 1] I am process {rank} of 4" for rank in (0, 1)
    ]


def test_a_background_jobs_lines_stay_with_the_cell_that_started_it(
    cells: Dict[str, Shown],
) -> None:
    assert cells["background"].lines == [f"[3 job 2] tick {number}" for number in (1, 2, 3)]
    assert cells["wait"].result == "{3: 0}"


def test_the_ledger_adds_up(cells: Dict[str, Shown]) -> None:
    assert cells["flush"].result == "(True, 4, ())"
    sums = re.findall(
        r"^(lines|bytes): (\S+) written = (\S+) stored \+ 0 skipped \+ 0 gap \+ 0 in flight$",
        cells["status"].text,
        re.MULTILINE,
    )
    assert [name for name, written, stored in sums if written == stored] == ["lines", "bytes"]


def test_nothing_is_left_afterwards(cells: Dict[str, Shown], place: str) -> None:
    assert cells["stop"].text == "stopped\n"
    assert session_processes(place) == []
    assert [name for name in os.listdir(place) if name.startswith("logmesh-")] == []


def test_jupyter_execute_runs_it(place: str) -> None:
    shutil.copy(NOTEBOOK, place)
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "execute", "--inplace", NOTEBOOK.name],
        capture_output=True, text=True, timeout=90, check=False, cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = nbformat.read(Path(place, NOTEBOOK.name), as_version=4)
    shown = {cell.id: Shown(cell) for cell in written.cells if cell.cell_type == "code"}
    assert shown["hello"].receipt == "4/4 procs, 4 lines, 0 lost"
    assert session_processes(place) == []


def test_the_notebook_is_valid_and_its_outputs_tell_nothing_of_the_machine_they_come_from() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    outputs = json.dumps([cell.get("outputs", []) for cell in notebook.cells])
    assert not re.findall(r"/(?:home|root|work|tmp|usr|opt|var|Users)/", outputs)
    assert set(re.findall(r"(?:procs|ProcMesh) on ([^,:]*)", outputs)) <= {"localhost"}
