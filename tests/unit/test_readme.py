"""What the README promises names the tests that hold it: they must be there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_each_test_that_holds_a_promise_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", README))
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 25
    assert named <= defined, named - defined


def test_each_promise_and_threat_has_a_test() -> None:
    for heading in ("## The delivery contract", "## Threat model"):
        section = README.split(f"\n{heading}\n")[1].split("\n## ")[0]
        promises = [line for line in section.splitlines() if line.startswith("| ")][1:]
        assert len(promises) > 5
        for promise in promises:
            held_by = promise.rstrip(" |").rpartition("|")[2]
            assert re.search(r"`test|oracle test", held_by), promise


def test_the_architecture_names_each_module() -> None:
    named = set(re.findall(r"`([a-z_/]+)`", README.split("\n## Architecture\n")[1]))
    modules = {
        str(path.relative_to(ROOT / "logmesh_ipy").with_suffix(""))
        for path in (ROOT / "logmesh_ipy").rglob("*.py")
        if not path.name.startswith("_")
    }
    assert modules <= named, modules - named
