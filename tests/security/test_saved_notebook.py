"""A notebook whose procs know secrets, executed and saved: none of them is in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Iterator

import nbformat
import pytest
from nbclient import NotebookClient

from tests.integration.conftest import ROOT, seed
from tests.security.test_redaction import MARK, beginnings, found_in, on_disk, token

__all__ = ["seed", "token"]

CELLS = [
    "%load_ext logmesh_ipy",
    r"%logmesh start --procs 2 --redact 'card=\d{{4}}-\d+' --files files",
    (
        "%%logmesh run\nimport os, sys\nprint(os.environ['HF_TOKEN'], 'card=%d-5678' % 1234)\n"
        "print('err', os.environ['HF_TOKEN'], file=sys.stderr)\nos.environ['HF_TOKEN']"
    ),
    "%%logmesh run\nos.write(1, b'half ' + os.environ['HF_TOKEN'][:9].encode())",
    "%%logmesh run\nos.write(1, os.environ['HF_TOKEN'][9:].encode())",
    "%%logmesh run\nraise RuntimeError(os.environ['HF_TOKEN'])",
    "%%logmesh run --ranks 1\nos.write(2, os.environ['HF_TOKEN'][:20].encode())\nos._exit(4)",
    "%xmode Verbose",
    "%logmesh exec -- sh -c 'echo command $HF_TOKEN'",
    (
        "from logmesh_ipy import context, this_host\n"
        "instance = context().actor_instance\nmesh = instance.meshes[0]\n"
        "open('token', 'wb').write(instance.token) and None"
    ),
    "mesh.run('1/0', ranks=0).get()",
    (
        "import sys\nright, sys.executable = sys.executable, '/nowhere/python'\n"
        "this_host().spawn_procs(1).get()"
    ),
    "sys.executable = right\ninstance, mesh, mesh._host, vars(instance)",
    "%logmesh status",
    "%logmesh panel",
    "mesh.logs",
    "%logmesh stop",
]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A temporary directory that the kernel and its mesh use, and the package on their path."""
    directory = tempfile.mkdtemp(prefix="lmt-", dir="/tmp")  # short: it holds socket paths
    monkeypatch.setenv("TMPDIR", directory)
    monkeypatch.setenv("IPYTHONDIR", f"{directory}/ipython")
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{path}".rstrip(os.pathsep))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.notebook
def test_a_saved_notebook_holds_no_secret(token: str, place: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    resources = {"metadata": {"path": place}}
    NotebookClient(
        notebook, timeout=60, kernel_name="python3", allow_errors=True, resources=resources
    ).execute()
    saved = nbformat.writes(notebook)
    shown = [json.dumps(cell.outputs) for cell in notebook.cells]
    for number, text in {
        1: "redacts card=", 2: f"{MARK} {MARK}", 3: f"half {MARK}", 5: f"RuntimeError: {MARK}",
        6: "exited with code 4", 8: f"command {MARK}", 10: "ZeroDivisionError", 11: "SpawnError",
        12: "Instance", 13: "in flight", 14: MARK, 15: MARK,
    }.items():  # fmt: skip
        plain = re.sub(r"\\u001b\[[0-9;]*m|\\n", "", shown[number])
        assert text in plain, (CELLS[number], plain)
    assert f"Out[0-1]: '{MARK}'" in shown[2]
    assert shown[2].count("0 lost") >= 1
    mesh_token = Path(place, "token").read_bytes()
    assert len(mesh_token) == 32
    Path(place, "token").unlink()
    secrets = [*beginnings(token[3:]), b"1234-5678", mesh_token.hex().encode()]
    # As Python's repr writes it, and that as JSON writes it.
    written = json.dumps(repr(mesh_token)[2:-1])[1:-1].encode()
    assert not found_in(saved.encode(), [*secrets, written[:24]])
    assert not found_in(b"".join(on_disk(place)), secrets)
