"""The benchmarks run and write what later comparisons read. The figures are not judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = {"lines/s", "ms", "s", "ratio", "%", "MB"}


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.environ.get("PYTHONPATH", "")
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *arguments],
        capture_output=True, text=True, timeout=110, check=False, cwd=ROOT,
        env={
            **os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{path}".rstrip(os.pathsep),
            "LOGMESH_PEERS_VENV": os.devnull,  # as where none is installed
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Any]:
    """What a quick run of all benchmarks writes."""
    written = tmp_path_factory.mktemp("benchmarks") / "out.json"
    done = benchmarks("--quick", "--json", str(written))
    assert done.returncode == 0, done.stderr
    found: Dict[str, Any] = json.loads(written.read_text())
    rows = [line for line in done.stdout.splitlines() if " n=" in line]
    assert len(rows) == len(found["figures"])
    return found


@pytest.mark.slow
@pytest.mark.notebook
def test_a_quick_run_gives_figures_of_every_benchmark(quick: Dict[str, Any]) -> None:
    assert quick["schema"] == 1
    assert {figure["benchmark"] for figure in quick["figures"]} == {
        "throughput", "pipeline", "barrier_idle", "barrier_storm", "start_up",
        "memory", "cell_cost", "loop_cost", "peers", "scale", "print_cost", "search", "grouping",
    }  # fmt: skip
    names = [figure["name"] for figure in quick["figures"]]
    assert len(set(names)) == len(names)


@pytest.mark.slow
@pytest.mark.notebook
def test_each_figure_has_a_unit_and_samples_that_its_summary_is_made_of(
    quick: Dict[str, Any],
) -> None:
    for figure in quick["figures"]:
        samples: List[float] = figure["samples"]
        assert figure["unit"] in UNITS
        assert figure["better"] in {"higher", "lower"}
        assert figure["n"] == len(samples) > 0
        assert (figure["min"], figure["max"]) == (min(samples), max(samples))
        assert figure["min"] <= figure["median"] <= figure["p99"] <= figure["max"]
        assert (figure["reached"] is None) == (figure["bar"] is None)
        assert figure["runner"] == "logmesh"
        if figure["unit"] == "lines/s":
            assert figure["min"] > 10_000


@pytest.mark.slow
@pytest.mark.notebook
def test_the_machine_is_described(quick: Dict[str, Any]) -> None:
    machine = quick["machine"]
    assert machine["cores"] >= 1
    assert machine["memory_bytes"] > 1 << 28
    assert machine["python"] == ".".join(map(str, sys.version_info[:3]))
    assert all(machine[name] for name in ("cpu", "kernel", "system", "implementation"))
    assert "msgpack" in machine["packages"]
    assert quick["settings"]["quick"] is True


def test_one_benchmark_can_be_chosen_and_json_can_go_to_stdout() -> None:
    done = benchmarks("barrier_idle", "--quick", "--json", "-")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert {figure["benchmark"] for figure in figures} == {"barrier_idle"}
    assert "barrier, idle, 8 procs" in done.stderr


def test_without_peers_ours_is_measured_and_how_to_install_them_is_told() -> None:
    done = benchmarks("peers", "--quick", "--json", "-")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert {figure["runner"] for figure in figures} == {"logmesh"}
    assert {figure["unit"] for figure in figures} == {"lines/s"}
    assert "not installed: monarch, ipyparallel, ray, dask" in done.stderr
    assert "tests/benchmarks/peers/setup" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "there is no benchmark 'nonsense'; there are: "),
        (["--repeat", "0"], "--repeat must be 1 or more"),
        (["--peer", "nobody"], "invalid choice: 'nobody'"),
        (["--peer", "ray"], "ray is not installed: tests/benchmarks/peers/setup ray"),
    ],
)
def test_a_wrong_argument_is_told_and_nothing_is_measured(arguments: List[str], words: str) -> None:
    done = benchmarks(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""
