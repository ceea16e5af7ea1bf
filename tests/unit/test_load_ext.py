"""What ``%load_ext logmesh_ipy`` costs a notebook that never starts a mesh: next to nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

ROOT = Path(__file__).resolve().parents[2]

_SCRIPT = """
import json, sys
from types import SimpleNamespace
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

shell = InteractiveShell.instance()
before = set(sys.modules)
found = {}
shell.run_line_magic("load_ext", "logmesh_ipy")
found["loaded"] = sorted(set(sys.modules) - before)
with capture_output() as shown:
    shell.run_line_magic("logmesh", "help start")
    shell.run_cell("%logmesh nonsense")
    shell.run_cell("1 + 1")
found["shown"] = shown.stdout + shown.stderr
extension = sys.modules["logmesh_ipy.extension"]._extensions[id(shell)]

def completed(text):
    return extension.complete(shell, SimpleNamespace(text_until_cursor=text))

found["commands"] = completed("%logmesh ")
found["options"] = completed("%logmesh start --")
found["after use"] = sorted(set(sys.modules) - before)
found["values"] = {
    name: completed(f"%logmesh start {name} ")
    for name in ("--engine", "--grouping", "--level", "--loop", "--view", "--window")
}
shell.run_line_magic("unload_ext", "logmesh_ipy")
found["threads"] = [t.name for t in sys.modules["threading"].enumerate()]
found["own"] = sorted(name for name in sys.modules if name.startswith("logmesh_ipy."))
sys.stdout.write(json.dumps(found))
"""


def in_a_shell() -> Dict[str, Any]:
    """What a fresh shell tells of loading, using and unloading the extension."""
    ended = subprocess.run(
        [sys.executable, "-c", _SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    found: Dict[str, Any] = json.loads(ended.stdout)
    return found


def test_loading_the_extension_loads_the_words_of_its_commands_only() -> None:
    found = in_a_shell()
    own = {name for name in found["loaded"] if name.startswith("logmesh_ipy")}
    assert own == {
        "logmesh_ipy", "logmesh_ipy._version", "logmesh_ipy.errors", "logmesh_ipy.extension",
        "logmesh_ipy.magics", "logmesh_ipy.store_places",
    }  # fmt: skip
    heavy = {"asyncio", "msgpack", "pyarrow", "ssl", "dataclasses", "importlib.metadata", "ctypes"}
    assert not heavy & set(found["loaded"])
    # Help, completion of names and options, and other cells need no more.
    assert {name for name in found["after use"] if name.startswith("logmesh_ipy")} == own


def test_help_and_completion_work_before_any_mesh_and_unloading_leaves_nothing() -> None:
    found = in_a_shell()
    assert "--procs" in found["shown"]
    assert "no sub-command 'nonsense'" in found["shown"]
    assert found["commands"][:3] == ["start", "run", "exec"]
    assert {"--procs", "--engine", "--view", "--window"} <= set(found["options"])
    values = found["values"]
    assert "local" in values["--engine"]
    assert {"DEBUG", "INFO", "WARNING", "ERROR"} <= set(values["--level"])
    assert values["--loop"] == ["thread", "kernel"]
    assert values["--view"] == ["panel", "plain"]
    assert values["--grouping"] == ["similar", "exact"]
    assert values["--window"] == ["none"]
    assert not [name for name in found["threads"] if name.startswith("logmesh")]
    assert "logmesh_ipy.session" not in found["own"]
