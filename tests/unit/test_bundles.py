"""The committed front end: small, without traces of its builder, and loaded only when used."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "logmesh_ipy"
BUNDLES = [PACKAGE / "static", PACKAGE / "labextension"]
MAX_GZIPPED = 150_000

LOADS = """
import sys
opened = []
sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name == "open" else None)
import logmesh_ipy
from IPython.core.interactiveshell import InteractiveShell
logmesh_ipy.load_ipython_extension(InteractiveShell.instance())
from logmesh_ipy import LoggingMeshClient, context, this_host
print([name for name in opened if "static" in name or "labextension" in name])
print([name for name in ("anywidget", "ipywidgets", "pyarrow", "pandas") if name in sys.modules])
"""


def files() -> list[Path]:
    return sorted(path for bundle in BUNDLES for path in bundle.rglob("*") if path.is_file())


def test_both_bundles_together_are_small() -> None:
    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in files()}
    assert len(sizes) > 3
    assert sum(sizes.values()) < MAX_GZIPPED, sizes


def test_the_bundles_tell_nothing_of_the_machine_that_built_them() -> None:
    here = f"{PACKAGE.parent}/"
    for path in files():
        text = path.read_text(errors="replace")
        assert here not in text, path
        assert path.suffix != ".map"


def test_the_extension_is_whole() -> None:
    manifest = json.loads((PACKAGE / "labextension" / "package.json").read_text())
    entry = manifest["jupyterlab"]["_build"]["load"]
    assert (PACKAGE / "labextension" / entry).is_file()


def test_neither_bundles_nor_widgets_nor_tables_are_loaded_with_the_package() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADS], capture_output=True, text=True, check=True, timeout=60,
        cwd=PACKAGE.parent,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
