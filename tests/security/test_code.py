"""Nothing that a log carries is ever run, and nothing secret stands where it can be read."""

from __future__ import annotations

import ast
import base64
import os
import random
import sys
import traceback
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest

import logmesh_ipy
from logmesh_ipy import ProcMesh, context
from logmesh_ipy.bootstrap import BootstrapProcManager
from logmesh_ipy.config import HostOptions
from logmesh_ipy.engines.base import HostPlan
from logmesh_ipy.errors import SpawnError
from logmesh_ipy.handshake import Token
from logmesh_ipy.proc import ProcAgent
from logmesh_ipy.wire import Call, decode, encode
from tests.faults.conftest import nothing_is_left, seed, start
from tests.integration.conftest import MeshMaker
from tests.security.test_redaction import found_in, on_disk, token
from tests.support import session_processes, wait_until
from tests.unit.test_import_order import imports_of, modules_of, own_module

__all__ = ["nothing_is_left", "seed", "start", "token"]

PACKAGE = Path(logmesh_ipy.__file__).parent

ROOTS = {
    "frames", "wire", "channel", "uplink", "stream_fwder", "local_log_sender", "spool",
    "file_appender", "log_forward_actor", "log_client_actor", "lines", "chunks", "store", "logs",
    "aggregator", "views", "views/plain", "views/terminal", "views/panel", "views/widget",
    "managed_proc", "redaction",
}  # fmt: skip
"""What log lines go through; all that these import is on their path too."""

RUNS_CODE = {"runner", "remote_code", "remote_proc", "mesh"}
"""The run channel: code that the user sends, and the results that the procs send back."""

SERIALIZERS = {
    "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml",
    "jsonpickle", "multiprocessing", "code", "codeop", "runpy", "builtins", "pty",
}  # fmt: skip
BUILTINS = {"eval", "exec", "compile", "__import__", "__builtins__"}
SHELLS = {"system", "popen", "getoutput", "getstatusoutput", "create_subprocess_shell"}
UNPICKLES = {"read_pickle", "load_module", "exec_module", "unpack_result"}


def dangers(tree: ast.AST) -> Iterator[str]:
    """Everything in a module by which text may become code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module.partition(".")[0]]
        else:
            names = []
        yield from (f"imports {name}" for name in names if name in SERIALIZERS)
        if isinstance(node, ast.Name) and node.id in BUILTINS:
            yield f"uses {node.id}"
        elif isinstance(node, ast.Attribute) and node.attr in SHELLS | UNPICKLES:
            yield f"uses .{node.attr}"
        elif isinstance(node, ast.keyword) and node.arg in {"shell", "allow_pickle"}:
            if not isinstance(node.value, (ast.Name, ast.Attribute)):  # an IPython shell
                yield f"sets {node.arg}"
        elif isinstance(node, ast.Attribute) and node.attr in {"load", "loads"}:
            owner = ast.unparse(node.value)
            if owner != "json" and "point" not in owner:  # entry points are installed code
                yield f"uses {owner}.{node.attr}"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import os, marshal", "import shelve as s",
        "import yaml", "def f():\n    import cloudpickle", "from multiprocessing import Pipe",
        "eval(x)", "call(eval, x)", "exec(line)", "compile(line, '', 'exec')", "__import__(line)",
        "import builtins", "__builtins__['ev' + 'al']", "os.system(x)",
        "asyncio.create_subprocess_shell(x)",
        "Popen(x, shell=True)", "np.load(x, allow_pickle=True)", "anything.loads(x)",
        "pandas.read_pickle(x)",
    ],
)  # fmt: skip
def test_the_check_finds_what_it_is_for(source: str) -> None:
    assert list(dangers(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    ["import json\njson.loads(x)", "re.compile(x)", "mesh.exec(argv)", "msgpack.unpackb(x)"],
)
def test_the_check_lets_pass_what_it_is_not_for(source: str) -> None:
    assert not list(dangers(ast.parse(source)))


def log_path() -> Set[str]:
    """The modules that log lines may pass: the roots, and all that is imported from there."""
    modules = modules_of(PACKAGE)
    assert set(modules) >= ROOTS
    found, waiting = set(ROOTS), list(ROOTS)
    while waiting:
        for imported in imports_of(PACKAGE, modules[waiting.pop()]):
            target = own_module(imported.target, modules)
            if imported.kind != "typing" and target in modules and target not in found:
                found.add(target)
                waiting.append(target)
    return found


def test_on_the_path_of_a_log_nothing_becomes_code() -> None:
    modules = modules_of(PACKAGE)
    path = log_path()
    assert len(path) > 40
    found = {name: list(dangers(ast.parse(modules[name].read_text()))) for name in path}
    assert {name: what for name, what in found.items() if what} == {}
    assert not path & RUNS_CODE


def test_elsewhere_only_the_run_channel_runs_code() -> None:
    found = {
        name: sorted(set(dangers(ast.parse(path.read_text()))))
        for name, path in modules_of(PACKAGE).items()
    }
    assert {name: what for name, what in found.items() if what} == {
        "runner": [
            "imports cloudpickle", "uses __builtins__", "uses cloudpickle.loads", "uses compile",
            "uses eval",
        ],
        "remote_code": ["imports cloudpickle", "uses cloudpickle.loads"],
        "extension": ["uses compile"],  # looks whether a cell awaits, and runs nothing
    }  # fmt: skip


def forms(secret: bytes) -> List[bytes]:
    """How bytes look in texts."""
    return [
        secret, secret.hex().encode(), repr(secret)[2:-1].encode(),
        base64.b64encode(secret)[:40], base64.urlsafe_b64encode(secret)[:40],
        ", ".join(map(str, secret)).encode(),
    ]  # fmt: skip


def leaking(secret: bytes) -> List[str]:
    """Classes of ours, and of what they hold, whose text tells the secret; in any process."""
    import gc
    import logging

    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    forms = [repr(secret)[2:-1], secret.hex()]
    found = set()
    gc.collect()
    for thing in gc.get_objects():
        if str(type(thing).__module__).startswith("logmesh_ipy"):
            values = [thing, *getattr(thing, "__dict__", {}).values()]
            for value in values:
                said = f"{value!r} {value!s}"
                if any(form in said for form in forms):
                    found.add(f"{type(thing).__qualname__}: {type(value).__qualname__}")
    return sorted(found)


def everything_told(mesh: ProcMesh) -> str:
    """Texts of errors of all kinds, with the local variables of all frames."""
    told = []
    for attempt in (
        lambda: mesh.run("1 / 0").get(20),
        lambda: mesh.exec(["/nowhere"]).get(20),
        lambda: mesh.instance.loop.submit(mesh._call("nonsense", a=1)).get(20),
        lambda: mesh.instance.loop.submit(mesh._call("peek", proc=99, target=1, lines=1)).get(20),
        lambda: mesh.run(lambda: os.environ["NOTHING"]).get(20),
    ):
        try:
            attempt()
        except Exception as error:  # noqa: BLE001 (all of them)
            full = traceback.TracebackException.from_exception(error, capture_locals=True)
            told += [str(error), repr(error), "".join(full.format())]
    assert len(told) == 15
    return "\n".join(told)


def test_the_meshs_token_is_nowhere_but_in_memory(
    start: MeshMaker, nothing_is_left: str, capfd: pytest.CaptureFixture[str]
) -> None:
    mesh = start(2, files=f"{nothing_is_left}/files")
    secret = bytes(mesh.instance.token)
    job = mesh.exec(["sleep", "60"]).get(20)
    told = everything_told(mesh)
    pids = [os.getpid(), *session_processes(nothing_is_left)]
    assert len(pids) >= 6  # this one, bootstrap, fork server, two procs, two commands
    for pid in pids:
        for name in ("cmdline", "environ"):
            assert not found_in(Path(f"/proc/{pid}/{name}").read_bytes(), forms(secret)), (
                pid,
                name,
            )
    assert leaking(secret) == []
    assert mesh.run(leaking, secret).get(60) == {0: [], 1: []}
    assert mesh.instance.token == secret
    assert mesh.flush(20).get(30)
    job.stop().get(20)
    told += (
        repr(context())
        + repr(mesh.instance.__dict__)
        + repr(mesh.__dict__)
        + repr(vars(mesh._host))
    )
    told += "".join(capfd.readouterr())
    files = b"".join(on_disk(nothing_is_left))
    assert not found_in(told.encode() + files, forms(secret))


def test_what_a_host_is_told_has_no_text() -> None:
    secret = bytes(range(200, 232))
    config: Dict[str, Any] = {
        "name": "h1", "directory": "/d", "session_directory": "/d", "session": "s",
        "uplink": "unix:/d/c", "token": Token(secret), "certificate": None, "patience_sec": None,
        "options": HostOptions(redact=("my secret word",)).to_map(),
    }  # fmt: skip
    told = [HostPlan(name="h1", config=config), HostOptions(redact=("my secret word",))]
    call = Call(n=0, method="configure", args=config)
    data = encode(call)
    received = decode(data[4], data[5:])
    assert type(received) is Call
    assert bytes(received.args["token"]) == secret
    told += [call, received, Token(secret), [Token(secret)], f"{Token(secret)}", str(Token(secret))]
    said = "".join(map(repr, told))
    assert not found_in(said.encode(), [*forms(secret), b"my secret word"])


def test_who_holds_a_token_does_not_tell_it() -> None:
    secret = bytes(range(200, 232))
    config = {"proc": 0, "rank": 0, "uplink": "unix:/d", "token": secret, "level": 20}
    agent = ProcAgent(config, None)  # type: ignore[arg-type]
    assert not found_in(repr(vars(agent)).encode(), forms(secret))
    host: Dict[str, Any] = {
        "name": "h1", "directory": "/d", "session_directory": "/d", "session": "s",
        "uplink": "unix:/d/c", "token": secret, "certificate": None, "patience_sec": None,
        "options": {},
    }  # fmt: skip
    manager = BootstrapProcManager(host)
    assert not found_in(repr(vars(manager)).encode(), forms(secret))


def test_a_bootstrap_that_cannot_be_started_tells_no_token(
    start: MeshMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = context().actor_instance
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SpawnError) as failure:
        start(1)
    told = traceback.TracebackException.from_exception(failure.value, capture_locals=True)
    said = "".join(told.format()).encode()
    assert b"'token': <token>" in said  # the frames that hold it are among these
    assert not found_in(said, forms(bytes(instance.token)))
    instance.close_loop()


def test_redacted_values_are_only_where_they_were_given(
    start: MeshMaker, token: str, nothing_is_left: str, seed: random.Random
) -> None:
    mesh = start(2, redact=(r"a pattern \d+ of mine",))
    password = "".join(seed.choices("abcdefghkmnpABCDEFGHKMNP2345", k=20))
    job = mesh.exec(["sleep", "60"], environ={"DB_PASSWORD": password}).get(20)
    try:
        wait_until(lambda: len(job.pids) == 2)
        pids = session_processes(nothing_is_left)
        given = set(job.pids.values())
        assert given <= set(pids)
        for pid in pids:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            assert not found_in(command, [token[3:].encode(), password.encode(), b"of mine"])
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            assert (password.encode() in environ) is (pid in given)
            assert token.encode() in environ  # as in this process's own
            assert b"of mine" not in environ
    finally:
        job.stop().get(20)
