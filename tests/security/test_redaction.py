"""Real meshes whose procs know secrets: none of these gets into the notebook or onto a disk."""

from __future__ import annotations

import contextlib
import os
import random
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from logmesh_ipy import ProcMesh
from logmesh_ipy.cli import main
from logmesh_ipy.config import HostOptions, check_patterns
from logmesh_ipy.errors import MeshError, OptionError, SpawnError
from logmesh_ipy.settings import LogMesh
from logmesh_ipy.store import Row
from tests.faults.conftest import Trial, nothing_is_left, rounds, seed, start, trial
from tests.integration.conftest import MeshMaker, texts, unfinished
from tests.support import session_processes, wait_until

__all__ = ["nothing_is_left", "seed", "start", "trial"]

MARK = "[redacted]"
PASSWORD = "o'Neill\\42 & more"
PATTERN = r"card=\d{4}-\d{4}"


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, seed: random.Random) -> str:
    """A secret of this process's environment, another one each time."""
    made = "hf_" + "".join(seed.choices("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ", k=30))
    monkeypatch.setenv("HF_TOKEN", made)
    return made


def beginnings(*secrets: str) -> List[bytes]:
    """What must be nowhere: four bytes of a secret and more."""
    return [secret[:4].encode() for secret in secrets]


def found_in(data: bytes, secrets: List[bytes]) -> List[str]:
    """Where these are, with what stands around."""
    places = [(secret, data.find(secret)) for secret in secrets]
    return [f"{secret!r}: {data[max(0, at - 60) : at + 60]!r}" for secret, at in places if at >= 0]


def on_disk(directory: str) -> Iterator[bytes]:
    """All files below ``directory``, and all that this process and the mesh's have open there.

    Files without a name are among these; what is in memory (memfd) is not.
    """
    for path in Path(directory).rglob("*"):
        if path.is_file():
            yield path.read_bytes()
    for pid in [os.getpid(), *session_processes(directory)]:
        links: List[Path] = []
        with contextlib.suppress(FileNotFoundError):  # it has ended
            links += Path(f"/proc/{pid}/fd").iterdir()
        for link in links:
            with contextlib.suppress(OSError):
                name = os.readlink(link)
                if stat.S_ISREG(link.stat().st_mode) and name.startswith(directory):
                    yield link.read_bytes()


def in_store(mesh: ProcMesh) -> bytes:
    """All that the client has of all streams."""
    rows = [row.text for row in mesh.instance.store.lines()]
    return b"\n".join(rows + [line.text for line in mesh.instance.store.open_lines()])


def everywhere(mesh: ProcMesh, directory: str) -> bytes:
    """What a user, or who looks at the disks, can see."""
    peeks = [
        b"\n".join(mesh.peek(rank, target=target, lines=1000).get(10))
        for rank in range(len(mesh))
        for target in (1, 2)
    ]
    return b"\n".join([in_store(mesh), *peeks, *on_disk(directory)])


TELLS = """
import ctypes, logging, os, subprocess, sys, threading
token = os.environ["HF_TOKEN"]
print("python", token, "card=1234-5678", flush=True)
logging.warning("logging %s", token)
libc = ctypes.CDLL(None)
libc.printf(b"c %s\\n", token.encode())
libc.fflush(None)
subprocess.run(["sh", "-c", "echo child $HF_TOKEN; echo child $HF_TOKEN >&2"])
for byte in f"slowly {token}!\\n".encode():
    os.write(1, bytes([byte]))
print("in a url", "https://me:" + __import__("urllib.parse").parse.quote(token) + "@host")
print("encoded", __import__("base64").b64encode(token.encode()).decode())
print(dict(os.environ)["HF_TOKEN"], os.environ)
def fail():
    raise ValueError(f"of a thread: {token}")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
"""


def test_what_procs_and_their_children_print_is_redacted_everywhere(
    start: MeshMaker, token: str, nothing_is_left: str
) -> None:
    files = os.path.join(nothing_is_left, "files")
    mesh = start(2, files=files, redact=(PATTERN,))
    mesh.run(TELLS).get(30)
    job = mesh.exec(["sh", "-c", "echo command $HF_TOKEN; echo err $HF_TOKEN >&2"]).get(30)
    assert not any(job.wait().get(30).values())
    assert mesh.flush(30).get(40)
    told = everywhere(mesh, nothing_is_left)
    assert not found_in(told, [*beginnings(token[3:]), b"1234-5678"])
    for rank in range(2):
        out = texts(mesh, rank)
        for line in (f"python {MARK} {MARK}", f"c {MARK}", f"child {MARK}"):
            assert out.count(line) == 1, out
        # Where the writer falls behind, up to three bytes have been told before the rest comes.
        slowly = [f"slowly {token[:told]}{MARK}!" for told in range(4)]
        assert sum(map(out.count, slowly)) == 1, out
        assert f"in a url https://me:{MARK}@host" in out
        assert f"command {MARK}" in out
        err = texts(mesh, rank, 2)
        assert {f"WARNING:root:logging {MARK}", f"child {MARK}", f"err {MARK}"} <= set(err)
        assert f"ValueError: of a thread: {MARK}" in err
    known = mesh.host_status().get(10)
    assert [known[str(proc.proc)]["streams"]["stdout"]["redacted"] >= 7 for proc in mesh.procs]
    raw = b"".join(path.read_bytes() for path in Path(files).iterdir())
    assert raw.count(b"[redacted]") >= 20


def test_errors_results_and_last_words_are_redacted(
    start: MeshMaker, token: str, nothing_is_left: str
) -> None:
    mesh = start(2, redact=(PATTERN,))
    with pytest.raises(MeshError) as failure:
        mesh.run("import os\nraise ValueError(os.environ['HF_TOKEN'], 'card=1111-2222')").get(30)
    error = failure.value
    said = [str(error), repr(error), *error._render_traceback_()]
    said += [f"{e.message} {e.traceback} {e!r}" for e in error.errors.values()]
    shown = mesh.run_cell(
        "import os; {'a': os.environ['HF_TOKEN']}", ranks=None, filename="<cell>"
    ).get(30)
    said += shown.values()
    assert shown[0] == f"{{'a': '{MARK}'}}"
    # What a program gets is what it has asked for.
    assert mesh.run("os.environ['HF_TOKEN']").get(30) == {0: token, 1: token}
    # One that is set by the code itself, and a long text that is cut.
    set_later = "os.environ['DB_PASSWORD'] = 'later' + '-' + 'Secret'; 'x' * 9_990 + 'later-Secret'"
    said += mesh.run_cell(set_later, ranks="0", filename="<cell>").get(30).values()
    half = "os.write(2, b'last ' + os.environ['HF_TOKEN'][:20].encode()); os._exit(3)"
    with pytest.raises(MeshError) as death:
        mesh.run(half, ranks=1).get(30)
    said += death.value._render_traceback_()
    assert f"last {MARK}" in death.value.errors[1].traceback
    with pytest.raises(SpawnError) as missing:
        mesh.exec([f"/nowhere/{token}"]).get(30)
    said.append(str(missing.value))
    assert MARK in str(missing.value)
    told = "\n".join(said).encode()
    assert not found_in(told, [*beginnings(token[3:], "later-"), b"1111-2222"])
    assert not found_in(everywhere(mesh, nothing_is_left), beginnings(token[3:]))


def test_a_barrier_between_the_halves_of_a_secret_tells_no_half(
    start: MeshMaker, token: str, seed: random.Random
) -> None:
    mesh = start(1)
    for _ in range(rounds(6, 60)):
        mesh.run("import os; os.write(1, b'key: ')").get(30)
        at = 0
        while at < len(token):
            size = seed.randint(1, 12)
            mesh.run(f"os.write(1, os.environ['HF_TOKEN'][{at}:{at + size}].encode())").get(30)
            at += size
            assert mesh.flush(30).get(40)
            assert unfinished(mesh, 0).startswith("key: ")
            assert token[:4] not in unfinished(mesh, 0)
        mesh.run(r"os.write(1, b' that was it\n')").get(30)
        assert mesh.flush(30).get(40)
        line = texts(mesh, 0)[-1]
        assert line in {f"key: {token[:told]}{MARK} that was it" for told in range(4)}


def test_a_line_without_end_is_shown_soon_where_there_is_a_pattern(start: MeshMaker) -> None:
    mesh = start(1, redact=(PATTERN,))
    mesh.run("import os; os.write(1, b'name? card=1234-5678 ')").get(30)
    wait_until(lambda: unfinished(mesh, 0) == f"name? {MARK} ", 10, lambda: unfinished(mesh, 0))
    mesh.run(r"os.write(1, b'10%\r20%\r')").get(30)
    wait_until(lambda: "20%" in unfinished(mesh, 0), 10, lambda: unfinished(mesh, 0))


def test_a_large_value_is_shown_cut_and_not_hidden(start: MeshMaker, token: str) -> None:
    mesh = start(1, redact=(r"(?i)passw\S+",))
    size = 3_000_000
    cell = f"import os; os.environ['HF_TOKEN'] + ' 0.123,' * {size}"
    shown = mesh.run_cell(cell, ranks=None, filename="<cell>").get(60)[0]
    assert shown.startswith(f"'{MARK} 0.123, 0.123,")
    assert shown.count(MARK) == 1
    assert shown.endswith(f"... ({len(token) + 7 * size + 2:,} characters)")
    assert 10_000 < len(shown) < 10_100


def test_a_command_has_secrets_of_its_own(start: MeshMaker, nothing_is_left: str) -> None:
    mesh = start(2)
    tell = "import os; print(os.environ['DB_PASSWORD'], [os.environ['DB_PASSWORD']], flush=True)"
    pem = (
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END"
    )
    tell += "; print(os.environ['TLS_KEY'], os.environ['SSH_PRIVATE_KEY'], sep='\\n')"
    environ = {"DB_PASSWORD": PASSWORD, "TLS_KEY": "not one", "SSH_PRIVATE_KEY": pem}
    job = mesh.exec([sys.executable, "-c", tell], environ=environ).get(30)
    assert not any(job.wait().get(30).values())
    assert mesh.flush(30).get(40)
    expected = [
        f"{MARK} ['{MARK}']".replace("'", '"'), "not one",
        "-----BEGIN PRIVATE KEY-----", MARK, MARK, "-----END",
    ]  # fmt: skip
    assert texts(mesh, 0) == texts(mesh, 1) == expected
    assert not found_in(everywhere(mesh, nothing_is_left), [b"Neill", b"MIIE", b"AQEF"])


def test_a_proc_that_the_bootstrap_has_adopted_is_redacted(
    start: MeshMaker, token: str, nothing_is_left: str
) -> None:
    mesh = start(1, redact=(PATTERN,))
    hold = (
        "import ctypes, subprocess\n"
        "child = subprocess.Popen(['sh', '-c', 'for n in 1 2 3 4 5 6; do sleep 0.4; "
        "echo $n $HF_TOKEN card=1234-567$n; done'])\n"
        "ctypes.PyDLL(None).usleep(2_500_000)\n"  # holds the interpreter's lock
        "child.wait()"
    )
    run = mesh.run(hold)
    wait_until(lambda: mesh.host_status().get(10)["0"]["adopted"], 20, "adopted")
    wait_until(lambda: len(texts(mesh, 0)) >= 3, 20)
    run.get(30)
    assert mesh.flush(30).get(40)
    assert texts(mesh, 0) == [f"{n} {MARK} {MARK}" for n in range(1, 7)]
    assert not found_in(everywhere(mesh, nothing_is_left), beginnings(token[3:]))


def test_what_waits_on_a_disk_is_redacted(
    start: MeshMaker, token: str, nothing_is_left: str
) -> None:
    mesh = start(1, window_bytes=64 << 10, redact=(PATTERN,))
    lines = 100_000
    go = Path(nothing_is_left, "go")
    print_lines = f'yes "$HF_TOKEN card=1234-5678 {"." * 40}" | head -n {lines}'
    wait = f"while ! [ -e {go} ]; do sleep 0.02; done"
    job = mesh.exec(["sh", "-c", f"{wait}; {print_lines}"]).get(30)
    # A client that does not listen: all waits on the host.
    stuck = threading.Event()
    mesh.instance.loop.loop.call_soon_threadsafe(stuck.wait, 60)
    go.touch()
    try:
        spooled = wait_until(
            lambda: [data for data in on_disk(nothing_is_left) if b"[redacted]" in data], 30
        )
        assert not found_in(b"".join(spooled), [*beginnings(token[3:]), b"1234-5678"])
    finally:
        stuck.set()
    assert not any(job.wait().get(60).values())
    assert mesh.flush(60).get(70)
    (source,) = job.rank_of
    totals = mesh.instance.actor.totals([source])
    assert (totals.stored_lines, totals.written_lines) == (lines, lines)
    assert totals.stored_bytes == totals.written_bytes == lines * (2 * len(MARK) + 43)


@pytest.mark.usefixtures("token")
def test_all_else_is_untouched_and_the_ledger_stays_true(start: MeshMaker, trial: Trial) -> None:
    mesh = start(2, redact=(PATTERN, r"never this ((\d+)-)+"))
    lines = rounds(5_000, 100_000)
    began = time.monotonic()
    job = trial.exec(mesh, lines=lines, streams="12")
    sources = trial.write_in_procs(mesh, lines=lines // 2, streams="2")
    telling = (
        "import os, time\n"
        "for n in range(500):\n"
        "    os.write(1, b'tell %d ' % n); os.write(1, os.environ['HF_TOKEN'][:17].encode())\n"
        "    if not n % 50: time.sleep(0.02)\n"
        r"    os.write(1, os.environ['HF_TOKEN'][17:].encode() + b' card=1234-5678\n')"
    )
    mesh.run(telling).get(60)
    assert not any(job.wait().get(60).values())
    trial.wait_for_lines(sources, lines // 2, stream=2)
    assert mesh.flush(60).get(70)

    def told(row: Row) -> bool:
        return row.text.startswith(b"tell ")

    ledger = trial.oracle.judge(mesh.instance, told)
    sys.stdout.write(f"ledger: {ledger}; {time.monotonic() - began:.1f} s\n")
    assert ledger.clean, str(ledger)
    assert ledger.stored == ledger.written == 2 * 2 * lines + 2 * (lines // 2)
    for rank in range(2):
        mine = [text for text in texts(mesh, rank) if text.startswith("tell ")]
        assert mine == [f"tell {n} {MARK} {MARK}" for n in range(500)]
    known = mesh.host_status().get(10)
    counts = {source: known[str(source)]["streams"]["stdout"]["redacted"] for source in job.rank_of}
    assert set(counts.values()) == {0}
    assert [known[str(proc.proc)]["streams"]["stdout"]["redacted"] for proc in mesh.procs] == [
        1000
    ] * 2
    totals = mesh.instance.actor.totals(list(mesh.instance.actor.records))
    assert totals.written_lines == totals.stored_lines
    assert totals.written_bytes == totals.stored_bytes


def test_a_pattern_that_takes_for_ever_stops_neither_host_nor_barrier(start: MeshMaker) -> None:
    mesh = start(2, redact=(r"(\w+\s?)+!",))
    mesh.run("print('before'); print('a' * 60); print('after', flush=True)", ranks="0").get(30)
    began = time.monotonic()
    assert mesh.flush(30).get(40)
    took = time.monotonic() - began
    sys.stdout.write(f"a barrier behind such a line: {took:.2f} s\n")
    assert took < 10
    assert texts(mesh, 0) == ["before", MARK, "after"]
    (warning,) = mesh.host_status().get(10)["0"]["warnings"]
    assert warning == "1 line is hidden: a pattern to redact took too long there"
    # The same pattern on the run channel: the proc gives up as well.
    assert mesh.run_cell("'a' * 60", ranks="1", filename="<cell>").get(30) == {1: MARK}


def test_redaction_of_the_environment_can_be_switched_off(start: MeshMaker, token: str) -> None:
    mesh = start(1, redact_environment=False)
    mesh.run("import os; print(os.environ['HF_TOKEN'], flush=True)").get(30)
    assert mesh.flush(30).get(40)
    assert texts(mesh, 0) == [token]
    assert mesh.run_cell("os.environ['HF_TOKEN']", ranks=None, filename="<cell>").get(30) == {
        0: repr(token)
    }


TEE = """
import time
from logmesh_ipy import this_host
from logmesh_ipy.config import HostOptions, MeshOptions
mesh = this_host().spawn_procs(1, options=MeshOptions(host=HostOptions(tee=True))).get(30)
mesh.run("import os, sys; print('out', os.environ['HF_TOKEN'], flush=True)").get(30)
mesh.run("print('err', os.environ['HF_TOKEN'], file=sys.stderr, flush=True)").get(30)
assert mesh.flush(30).get(40)
mesh.stop().get(10)
"""


def test_the_tee_is_redacted(token: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TEE], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"out {MARK}\n" in done.stdout
    assert f"err {MARK}\n" in done.stderr
    assert token[3:7] not in done.stdout + done.stderr


HOOK = """
import os, sys
if "logmesh_ipy.bootstrap" in sys.orig_argv:
    sys.stderr.write(f"starting with {os.environ['HF_TOKEN']} card=1234-5678\\n")
    sys.stderr.flush()
    if os.environ["WAY"] == "dies":
        sys.exit(3)
"""


@pytest.mark.parametrize("way", ["dies", "lives"])
def test_what_a_bootstrap_says_itself_reaches_no_disk_and_no_error(
    start: MeshMaker, token: str, nothing_is_left: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    Path(nothing_is_left, "sitecustomize.py").write_text(HOOK)
    monkeypatch.setenv("PYTHONPATH", f"{nothing_is_left}{os.pathsep}{os.environ['PYTHONPATH']}")
    monkeypatch.setenv("WAY", way)
    if way == "dies":
        with pytest.raises(SpawnError, match=r"starting with \[redacted\] \[redacted\]") as failure:
            start(1, redact=(PATTERN,))
        assert token[3:7] not in str(failure.value)
    else:
        mesh = start(1, redact=(PATTERN,))
        assert mesh._host is not None
        assert f"starting with {MARK} {MARK}" in mesh._host.last_words()
        assert not found_in(everywhere(mesh, nothing_is_left), beginnings(token[3:]))


@pytest.mark.usefixtures("token")
def test_the_command_line_redacts(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--redact", r"a\d", "--redact", "b+c", "--json", "--"]
    assert main([*words, "sh", "-c", "echo a1 a2 bbc $HF_TOKEN"]) == 0
    assert f'"text": "{MARK} {MARK} {MARK} {MARK}"' in capfd.readouterr().out
    with pytest.raises(SystemExit):
        main(["run", "--redact", "a(", "--", "true"])
    assert "redact: 'a(' is not a regular expression" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        ("a(", r"redact: 'a\(' is not a regular expression: missing \).*character 2"),
        (["ok", "\u00e9["], "redact: pattern 2, .* is not a regular expression: .*character 2"),
        (["x*"], r"redact: 'x\*' matches an empty text"),
        (["a", r"\b"], "redact: pattern 2, .* matches an empty text"),
        (['"]'], None),
        (["x" * 10_000], "redact: the patterns are longer than 8,192 characters"),
        ([1], r"redact is \[1\]; it must be a list"),
        (7, "redact is 7; it must be a list"),
    ],
)
def test_a_wrong_pattern_is_refused_and_named(patterns: Any, said: str) -> None:
    if said is None:
        assert HostOptions(redact=patterns).redact == tuple(patterns)
        return
    with pytest.raises(OptionError, match=said):
        HostOptions(redact=patterns)


def test_the_patterns_of_all_places_count(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LogMesh(redact=["one", "two"])

    def in_force(*given: str) -> Callable[[], Any]:
        return settings.options({"redact": list(given) or None}).host.redact

    assert in_force() == ("one", "two")
    monkeypatch.setenv("LOGMESH_REDACT", "[0-9]{4}")
    assert in_force("two", "four") == ("one", "two", "[0-9]{4}", "four")
    monkeypatch.setenv("LOGMESH_REDACT", '["a+", "b+"]')
    assert in_force() == ("one", "two", "a+", "b+")
    monkeypatch.setenv("LOGMESH_REDACT", '["a+", "b*"]')
    with pytest.raises(OptionError, match=r"'b\*'.*set in the environment: LOGMESH_REDACT"):
        in_force()
    monkeypatch.setenv("LOGMESH_REDACT", "")
    monkeypatch.setenv("LOGMESH_REDACT_ENVIRONMENT", "off")
    assert not settings.options({}).host.redact_environment
    assert check_patterns(settings.options({}).host.redact) == ("one", "two")
    assert "two" not in repr(settings.options({}))
