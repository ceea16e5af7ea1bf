"""Plain IPython in a terminal, without a notebook: lines print before the next prompt."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict

import pytest

from tests.notebook.conftest import ROOT, mesh_processes, wait_for_nothing

COMMAND = [
    sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=nocolor",
    "--HistoryManager.enabled=False",
]  # fmt: skip


@pytest.fixture
def environ(tmp_path: Path) -> Dict[str, str]:
    """Variables of a terminal without anybody's profile."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LOGMESH_")}
    place = tempfile.mkdtemp(prefix="lmt-", dir="/tmp")  # short: it holds socket paths
    python_path = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))
    return {**kept, "TMPDIR": place, "IPYTHONDIR": str(tmp_path), "PYTHONPATH": python_path}


def test_each_prompt_comes_after_the_lines_of_the_input_before_it(environ: Dict[str, str]) -> None:
    script = """\
%load_ext logmesh_ipy
%logmesh start --procs 2
get_ipython().run_cell_magic('logmesh', 'run', "print('first')")
get_ipython().run_cell_magic('logmesh', 'run', "import os; os.write(1, b'open end'); None")
%logmesh exec -- sh -c 'echo job; exit 3'
%logmesh start --loop kernel
%logmesh flush
%logmesh stop
"""
    done = subprocess.run(
        COMMAND,
        input=script,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=True,
    )
    parts = re.split(r"In \[(\d+)\]: ", done.stdout)
    said = dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))
    assert "2 procs on" in said[2]
    assert sorted(re.findall(r"^\[\d\].*$", said[3], re.MULTILINE)) == ["[0] first", "[1] first"]
    assert "2/2 procs, 2 lines, 0 lost" in said[3]
    assert sorted(re.findall(r"^\[\d\].*$", said[4], re.MULTILINE)) == [
        "[0] open end",
        "[1] open end",
    ]
    assert "[0 job 1] job" in said[5]
    assert "exit code 3: ranks 0-1" in said[5]
    assert "a mesh of 2 procs runs already" in said[6]
    assert "2/2 procs, 0 lines, 0 lost" in said[7]
    assert "stopped" in said[8]
    assert "Traceback" not in done.stdout
    assert not wait_for_nothing(environ["TMPDIR"])
    os.rmdir(environ["TMPDIR"])


def test_the_end_of_the_shell_ends_the_mesh(environ: Dict[str, str]) -> None:
    script = "%load_ext logmesh_ipy\n%logmesh start --procs 2\n"
    done = subprocess.run(
        COMMAND, input=script, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert "ready in" in done.stdout
    assert not wait_for_nothing(environ["TMPDIR"])
    assert mesh_processes(environ["TMPDIR"]) == {}


def test_loop_kernel_is_refused_where_there_is_no_kernel(environ: Dict[str, str]) -> None:
    done = subprocess.run(
        COMMAND,
        input="%load_ext logmesh_ipy\n%logmesh start --loop kernel\n",
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=True,
    )
    assert "UsageError" in done.stdout
    assert "Jupyter kernel" in done.stdout
    assert "Traceback" not in done.stdout
