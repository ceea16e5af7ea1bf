"""Names from outside are rejected before use, or made harmless where they only tell of a host."""

from __future__ import annotations

import json
import re
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from logmesh_ipy import ProcMesh
from logmesh_ipy.cli import main
from logmesh_ipy.config import HostOptions, MeshOptions, parse_ranks
from logmesh_ipy.engines.base import load_engine
from logmesh_ipy.errors import OptionError
from logmesh_ipy.file_appender import FileAppender
from logmesh_ipy.model import OutputTarget
from logmesh_ipy.names import check_command, check_host, clean_hostname
from logmesh_ipy.settings import LogMesh
from logmesh_ipy.wire import Attach
from tests.faults.conftest import nothing_is_left, seed, start
from tests.integration.conftest import MeshMaker
from tests.support import session_processes, wait_until

__all__ = ["nothing_is_left", "seed", "start"]

HOSTILE = {
    "up": "../../etc/passwd",
    "nul": "a\0b",
    "long": "a" * 10_000,
    "option": "-oProxyCommand=touch /tmp/pwned",
    "newline": "a\nb",
    "carriage return": "a\rb",
    "escape": "\x1b]0;owned\x07",
    "c1": "a\x9b2Jb",
    "bidi": "a\u202eb",
    "zero width": "a\u200bb",
    "separator": "a\u2028b",
    "markup": "<img src=x onerror=alert(1)>",
    "space": "a b",
    "shell": "$(touch /tmp/pwned);`id`",
    "surrogate": "a\udcffb",
    "empty": "",
}
CONTROLS = [n for n, t in HOSTILE.items() if t and not t.isprintable()]


def check_message(error: BaseException) -> None:
    """It can be shown anywhere, and does not repeat what it refuses at length."""
    text = str(error)
    assert text.isprintable(), text
    assert len(text) < 600


# --- hosts --------------------------------------------------------------------------------------

GOOD_HOSTS = [
    "localhost", "127.0.0.1", "node7", "node-7.example.org", "Node_7", "10.0.0.7:22",
    "user@node7", "first.last@node7:2222", "[::1]", "[fe80::1%eth0]:22", "me@[2001:db8::7]:65535",
    "a" * 253, "7",
]  # fmt: skip
BAD_HOSTS = [
    *HOSTILE.values(), "-", "-p", "user@-node", "-user@node", "@node", "user@", "a@b@c", "::1",
    "fe80::1", "node:", "node:0", "node:65536", "node:99999999999", "node:٢٢", "node:-1", "[::1",
    "::1]", "[::1]x", "[-o]", "[::1%-oX]:22x", "a" * 254, "u" * 65 + "@node", ".hidden", "nöde",
    "node/", "node:22:22", "a,b", "a\tb", "node\n", "node:22\n", None, 7, b"node",
]  # fmt: skip


def test_hosts_that_can_be_reached_pass() -> None:
    for host in GOOD_HOSTS:
        assert check_host(host) == host
        assert MeshOptions(hosts=(host,)).hosts == (host,)


def test_hosts_that_are_none_are_refused_wherever_they_come_from() -> None:
    for host in BAD_HOSTS:
        for use in (
            check_host,
            lambda name: MeshOptions(hosts=(name,)),
            lambda name: load_engine("local", (name,)),
        ):
            with pytest.raises(OptionError, match="allowed are letters, digits") as caught:
                use(host)
            check_message(caught.value)


@given(st.text(max_size=30))
@example("-o")
def test_a_host_that_passes_is_no_option_and_has_no_character_of_a_shell(text: str) -> None:
    try:
        check_host(text)
    except OptionError as error:
        check_message(error)
    else:
        assert re.fullmatch(r"[A-Za-z0-9_\[][A-Za-z0-9._@:%\[\]-]*", text)
        assert "@-" not in text


def test_hosts_are_refused_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, nothing_is_left: str
) -> None:
    def given_to(how: Callable[[str], object], host: str) -> None:
        with pytest.raises(OptionError) as caught:
            how(host)
        check_message(caught.value)
        assert session_processes(nothing_is_left) == []

    for host in HOSTILE.values():
        if host and "," not in host:
            given_to(lambda name: LogMesh().options({"hosts": name}), f"localhost,{host}")
        if host and "\0" not in host:
            with monkeypatch.context() as patch:
                patch.setenv("LOGMESH_HOSTS", host)
                given_to(lambda name: LogMesh().options({}), host)
    with pytest.raises(OptionError, match="must be several"):
        MeshOptions(hosts="localhost")  # type: ignore[arg-type]


# --- options ------------------------------------------------------------------------------------

OPTIONS = [
    "engine", "loop", "view", "grouping", "procs", "level", "window_sec", "similarity_threshold",
    "when_full", "autoflush", "fork_procs", "file_max_bytes", "flush_timeout_sec", "receipt",
    "max_line_bytes",
]  # fmt: skip


def in_force() -> None:
    settings = LogMesh()
    options = settings.options({})
    settings.receipt_policy()
    settings.view_in_force(None)
    load_engine(options.engine, options.hosts)


@pytest.mark.parametrize("option", OPTIONS)
def test_what_the_environment_says_is_refused_with_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    for text in HOSTILE.values():
        if "\0" not in text:
            monkeypatch.setenv(f"LOGMESH_{option.upper()}", text)
            with pytest.raises(OptionError) as caught:
                in_force()
            check_message(caught.value)


def test_ranks_are_refused() -> None:
    wrong = ("1" * 10_000, "0-" + "9" * 10_000, "0," * 5000, "-1", "٣")
    for text in (*HOSTILE.values(), *wrong):
        with pytest.raises(OptionError) as caught:
            parse_ranks(text, 4)
        check_message(caught.value)


def test_directories_for_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/tmp/" + "a/" * 5000, *(f"/tmp/{HOSTILE[kind]}" for kind in CONTROLS)):
        with pytest.raises(OptionError) as caught:
            HostOptions(files=path)
        check_message(caught.value)
        if "\0" not in path:
            monkeypatch.setenv("LOGMESH_FILES", path)
            with pytest.raises(OptionError):
                in_force()


def test_names_of_files_are_refused_or_stay_in_their_directory(tmp_path: Path) -> None:
    for kind, name in HOSTILE.items():
        if kind not in ("markup", "space", "option", "shell"):
            with pytest.raises(OptionError) as caught:
                HostOptions(files_basename=name)
            check_message(caught.value)
        # Whatever a host calls itself: the file has a plain name in the directory.
        directory = tmp_path / str(len(kind)) / kind
        file = FileAppender(str(directory), name, name, OutputTarget.STDOUT)
        file.append(b"line\n")
        file.close()
        assert file.warning is None
        (made,) = directory.iterdir()
        assert str(made) == file.path
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{,250}", made.name)


def test_the_command_line_refuses_them_too(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [
        ["--procs", HOSTILE["long"]],
        ["--procs", HOSTILE["escape"]],
        ["--window", HOSTILE["bidi"]],
        ["--level", HOSTILE["c1"]],
        ["--grouping", HOSTILE["escape"]],
        ["--files", "/tmp/a\nb"],
        ["--files", "a\0b"],
    ]
    for words in wrong:
        with pytest.raises(SystemExit) as caught:
            main(["run", *words, "--", "true"])
        assert caught.value.code == 2
        shown = capsys.readouterr().err
        assert shown.replace("\n", "").isprintable(), shown
        assert len(shown) < 3000


# --- commands -----------------------------------------------------------------------------------


COMMANDS: List[Tuple[List[str], Optional[Dict[str, str]], Optional[str], str]] = [
    (["a\0b"], None, None, "argument 0"),
    (["true", "x\0"], None, None, "argument 1"),
    (["", "x"], None, None, "the command is empty"),
    (["true", "\udcff"], None, None, "argument 1"),
    (["true"], {"": "x"}, None, "a name is not empty"),
    (["true"], {"A=B": "x"}, None, "no '='"),
    (["true"], {"A\0": "x"}, None, "a variable's name"),
    (["true"], {"A": "\0"}, None, "the variable 'A'"),
    (["true"], {"A" * 10_000: "\0"}, None, "10,002 long"),
    (["true"], None, "/tmp\0", "the working directory"),
]


def test_commands_that_no_system_can_start_are_refused(start: MeshMaker) -> None:
    mesh = start(1)
    for argv, environ, cwd, named in COMMANDS:
        with pytest.raises(OptionError, match=re.escape(named)) as caught:
            mesh.exec(argv, environ=environ, cwd=cwd)
        check_message(caught.value)
    assert mesh.jobs == {}
    assert mesh.exec(["true"]).get(20).wait().get(20) == {0: 0}


def test_what_is_no_list_of_texts_is_no_command() -> None:
    wrong: List[Any] = ["true", [], [7], [b"true"], ["true", None]]
    for argv in wrong:
        with pytest.raises(TypeError):
            check_command(argv, None, None)
    with pytest.raises(TypeError):
        check_command(["true"], {"A": 7}, None)  # type: ignore[dict-item]


def test_hostile_words_reach_a_command_as_they_are(start: MeshMaker) -> None:
    """No shell stands between: what is no NUL is passed on."""
    words = [text for text in HOSTILE.values() if "\0" not in text and text.isprintable()]
    mesh = start(1)
    code = "import json, sys; print(json.dumps(sys.argv[1:]))"
    job = mesh.exec([sys.executable, "-c", code, *words]).get(20)
    assert job.wait().get(20) == {0: 0}
    (row,) = mesh.instance.store.lines()
    assert json.loads(row.text) == words
    assert not Path("/tmp/pwned").exists()


# --- what hosts tell of themselves --------------------------------------------------------------


def test_a_machines_own_name_is_made_harmless() -> None:
    for text in HOSTILE.values():
        assert re.fullmatch(r"[A-Za-z0-9._-]{,253}", clean_hostname(text))
    assert clean_hostname("node7.example.org") == "node7.example.org"


def test_a_hostile_machine_runs_a_mesh(
    start: MeshMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel's own name, and the one with which a forwarder attaches."""
    hostile = "../<b>\x1b[2J\u202e\n" + "x" * 300
    monkeypatch.setattr(socket, "gethostname", lambda: hostile)
    mesh = start(1, files=str(tmp_path))
    assert repr(mesh).isprintable()
    attach_as(mesh, "<script>\x1b]0;x\x07" + "y" * 10_000)
    info = mesh.instance.actor.records[mesh.procs[0].proc].info
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,253}", info.hostname)
    mesh.run("print('hello')").get(10)
    assert mesh.flush(10).get(20)
    assert [row.text for row in mesh.instance.store.lines()] == [b"hello"]
    assert {re.sub(r"[A-Za-z0-9._-]", "", path.name) for path in tmp_path.iterdir()} == {""}


def attach_as(mesh: ProcMesh, hostname: str) -> None:
    """Have the client hear of a proc's host by that name, as if its first forwarder came again."""
    instance, proc = mesh.instance, mesh.procs[0].proc
    record = instance.actor.records[proc]
    record.info = replace(record.info, pid=0)
    message = Attach(
        proc=proc, epoch=record.epoch, generation=record.generation, pid=7, hostname=hostname
    )
    connection = record.connection
    assert connection is not None
    instance.loop.call(instance.actor._attach, connection, message)
    wait_until(lambda: record.info.pid == 7, what="attached")
