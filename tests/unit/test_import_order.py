"""Who may import whom. Reads the source, so an import counts even if no test runs it."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Set

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "logmesh_ipy"

FLOORS: Dict[int, str] = {
    0: "_version addresses clock config errors model names",
    1: "backoff barrier bounds clusters ended_sources evidence frames grouping handshake levels "
    "lines literals masks phrases redaction sanitize secret_names sequence templates verdicts wire",
    2: "channel gate heartbeat procs redaction_rules resumable rpc runtime_directory sockets spool "
    "tee tls uplink",
    3: "actor file_appender local_log_sender log_client_actor log_forward_actor "
    "logger_runtime_actor stream_fwder",
    4: "bootstrap forkserver managed_proc proc runner",
    5: "engines engines/base engines/dask engines/ipyparallel engines/local engines/ray "
    "engines/ssh",
    6: "aggregator blocks certificate chunks crashed_sessions host instance job log_columns "
    "log_files log_filter log_search log_summary log_workers logs loop mesh ranks remote_code "
    "remote_proc saved_store segments slot_values store store_file store_keeper store_places "
    "store_writer template_table",
    7: "client views views/base views/comms views/cut views/default views/driver views/feed "
    "views/group_text views/panel views/plain views/skips views/terminal views/told views/widget "
    "views/worker views/wrap",
    8: "__init__ __main__ cell_flush cli doctor doctor_packages doctor_system extension findings "
    "interrupts magics notebook_panel session settings status",
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()}

REMOTE_FLOOR = 4
"""Up to here modules run on hosts: Python 3.10, and little besides the standard library."""
REMOTE_THIRD_PARTY = {"msgpack", "anyio", "cloudpickle"}
NO_IO = {"anyio", "asyncio", "os", "select", "selectors", "socket", "ssl", "subprocess", "time"}
MAX_MODULE_LINES = 500


@dataclass(frozen=True)
class Import:
    """One import of ``target`` (dotted) on ``line``. ``kind``: module, lazy or typing."""

    target: str
    line: int
    kind: str

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]


class _Reader(ast.NodeVisitor):
    """Collects every import of one module, with relative ones resolved."""

    def __init__(self, package: List[str]) -> None:
        self.package = package
        self.kind = "module"
        self.found: List[Import] = []

    def _within(self, kind: str, nodes: List[ast.stmt]) -> None:
        before, self.kind = self.kind, "typing" if self.kind == "typing" else kind
        for node in nodes:
            self.visit(node)
        self.kind = before

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._within("lazy", node.body)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._within("lazy", node.body)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            self._within("typing", node.body)
            self._within(self.kind, node.orelse)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [Import(alias.name, node.lineno, self.kind) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self.package[: len(self.package) + 1 - node.level] if node.level else []
        base = base + (node.module.split(".") if node.module else [])
        for alias in node.names:
            self.found.append(Import(".".join([*base, alias.name]), node.lineno, self.kind))

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func)
        if name in {"import_module", "importlib.import_module", "__import__"} and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                dots = len(first.value) - len(first.value.lstrip("."))
                base = self.package[: len(self.package) + 1 - dots] if dots else []
                target = ".".join([*base, first.value.lstrip(".")])
                self.found.append(Import(target, node.lineno, "lazy"))
        self.generic_visit(node)


def modules_of(package: Path) -> Dict[str, Path]:
    """Each module by its name in the table; a sub-package has the name of its directory."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).with_suffix("").as_posix()
        found[name if name == "__init__" else name.removesuffix("/__init__")] = path
    return found


def imports_of(package: Path, path: Path) -> List[Import]:
    """All imports of the module at ``path``."""
    reader = _Reader([PACKAGE, *path.relative_to(package).parts[:-1]])
    reader.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return reader.found


def own_module(target: str, modules: Dict[str, Path]) -> Optional[str]:
    """The module of the package that a dotted target means; None if it is another's."""
    parts = target.split(".")
    if parts[0] != PACKAGE:
        return None
    for length in range(len(parts), 1, -1):
        name = "/".join(parts[1:length])
        if name in modules or name in FLOOR_OF:
            return name
    return "__init__"


def violations(package: Path) -> List[str]:
    """Everything in the package that breaks a rule, as sentences."""
    modules = modules_of(package)
    broken = [f"{name} has no floor in the table" for name in modules if name not in FLOOR_OF]
    same_floor: Dict[str, Set[str]] = {}
    for name, path in modules.items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_MODULE_LINES:
            broken.append(f"{name} has {lines} lines, {MAX_MODULE_LINES} are allowed")
        floor = FLOOR_OF.get(name)
        if floor is None:
            continue
        for found in imports_of(package, path):
            target = own_module(found.target, modules)
            where = f"{name}:{found.line}"
            if target is None:
                if found.kind != "typing":
                    broken += (f"{where} {why}" for why in _foreign(name, floor, found.top))
                continue
            above = FLOOR_OF.get(target, -1)
            if above > floor and not (target == "__init__" and _is_version(found)):
                broken.append(
                    f"{where} (floor {floor}) imports {target} (floor {above}), {found.kind}"
                )
            if {name, target} == {"log_forward_actor", "log_client_actor"}:
                broken.append(f"{where} imports {target}: the actors meet in wire only")
            if above == floor and found.kind != "typing" and target != name:
                same_floor.setdefault(name, set()).add(target)
    broken += (f"a cycle: {' > '.join(cycle)}" for cycle in _cycles(same_floor))
    return broken


def _is_version(found: Import) -> bool:
    return found.target == f"{PACKAGE}.__version__"


def _foreign(name: str, floor: int, top: str) -> Iterator[str]:
    if top == "msgpack" and name != "wire":
        yield "imports msgpack, which wire alone may"
    if floor == 1 and top in NO_IO:
        yield f"imports {top}, but floor 1 does no IO and reads no clock"
    if floor > REMOTE_FLOOR or top in sys.stdlib_module_names:
        return
    if top not in REMOTE_THIRD_PARTY:
        yield f"imports {top}, which a remote host does not have"
    if top == "cloudpickle" and name != "runner":
        yield "imports cloudpickle, which runner alone may"


def _cycles(graph: Dict[str, Set[str]]) -> List[List[str]]:
    found: List[List[str]] = []
    done: Set[str] = set()

    def walk(name: str, path: List[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for target in sorted(graph.get(name, ())):
                walk(target, [*path, name])
            done.add(name)

    for name in sorted(graph):
        walk(name, [])
    return found


def test_every_module_imports_only_what_its_floor_allows() -> None:
    assert violations(ROOT / PACKAGE) == []


def test_the_remote_floors_are_python_3_10() -> None:
    modules = modules_of(ROOT / PACKAGE)
    remote = [path for name, path in modules.items() if FLOOR_OF.get(name, 9) <= REMOTE_FLOOR]
    assert remote
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-version", "3.10", *map(str, remote)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    paths = {str(path.relative_to(ROOT)) for path in remote}
    wrong = [line for line in ended.stdout.splitlines() if line.partition(":")[0] in paths]
    assert not ended.stderr
    assert wrong == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "IPython", "ipykernel", "pyarrow", "asyncio", "traitlets", "cloudpickle", "msgpack"
    code = f"import sys, {PACKAGE}; print([name for name in {heavy!r} if name in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"model": "from . import wire"}, "model:1 (floor 0) imports wire (floor 1), module"),
        ({"model": "from .wire import Ack"}, "imports wire (floor 1), module"),
        ({"model": "from logmesh_ipy.wire import Ack"}, "imports wire (floor 1), module"),
        ({"model": "import logmesh_ipy.wire"}, "imports wire (floor 1), module"),
        ({"model": "def f():\n    from . import wire"}, "imports wire (floor 1), lazy"),
        ({"model": "async def f():\n    import logmesh_ipy.wire"}, "imports wire (floor 1), lazy"),
        (
            {"model": "if TYPE_CHECKING:\n    from .wire import Ack"},
            "imports wire (floor 1), typing",
        ),
        (
            {"model": "from importlib import import_module\nimport_module('logmesh_ipy.wire')"},
            "imports wire (floor 1), lazy",
        ),
        ({"wire": "from . import ProcMesh"}, "wire:1 (floor 1) imports __init__ (floor 8)"),
        ({"engines/local": "from ..mesh import ProcMesh"}, "imports mesh (floor 6)"),
        ({"lines": "import socket"}, "floor 1 does no IO"),
        ({"lines": "import os.path"}, "floor 1 does no IO"),
        ({"lines": "import time"}, "floor 1 does no IO"),
        ({"handshake": "import msgpack"}, "which wire alone may"),
        ({"mesh": "import msgpack"}, "which wire alone may"),
        ({"bootstrap": "import IPython"}, "which a remote host does not have"),
        ({"proc": "def f():\n    import pyarrow"}, "which a remote host does not have"),
        ({"config": "import traitlets.config"}, "which a remote host does not have"),
        ({"proc": "import cloudpickle"}, "which runner alone may"),
        ({"log_forward_actor": "from .log_client_actor import X"}, "the actors meet in wire"),
        ({"log_client_actor": "from . import log_forward_actor"}, "the actors meet in wire"),
        (
            {"mesh": "from .store import X", "store": "def f():\n    from .mesh import Y"},
            "a cycle: mesh > store > mesh",
        ),
        ({"gadget": ""}, "gadget has no floor in the table"),
        ({"views/gadget": ""}, "views/gadget has no floor in the table"),
        ({"wire": "\n" * (MAX_MODULE_LINES + 1)}, "wire has 501 lines"),
    ],
)
def test_a_broken_rule_is_seen(tmp_path: Path, files: Dict[str, str], complaint: str) -> None:
    found = violations(_plant(tmp_path, files))
    assert [sentence for sentence in found if complaint in sentence], found


@pytest.mark.parametrize(
    "files",
    [
        {"wire": "import msgpack\nfrom .model import Log\nfrom .errors import ProtocolError"},
        {"runner": "import asyncio, os, cloudpickle\nfrom .channel import dial"},
        {"channel": "from .procs import spawn", "procs": "import asyncio"},
        {"channel": "from . import procs", "procs": "if TYPE_CHECKING:\n    from . import channel"},
        {"engines/local": "from .base import Engine\nfrom ..bootstrap import main"},
        {"views/panel": "import IPython, pyarrow\nfrom ..store import LogStore"},
        {"bootstrap": "if TYPE_CHECKING:\n    import IPython"},
        {"wire": "from . import __version__"},
        {"__init__": "def f():\n    from .mesh import ProcMesh"},
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, files: Dict[str, str]) -> None:
    assert violations(_plant(tmp_path, files)) == []


def _plant(root: Path, files: Dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root
