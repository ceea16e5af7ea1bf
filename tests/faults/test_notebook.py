"""A notebook that is interrupted, restarted, nested, awaited: lines stay under the right cell.

Real kernels. What the procs' writers have written is judged inside the kernel, by its own store.
"""

from __future__ import annotations

import ast
import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import pytest

from tests.faults.conftest import WHOLE, Trial, rounds
from tests.faults.nemesis import freeze, thaw
from tests.notebook.conftest import (
    Cell,
    Kernel,
    KernelMaker,
    kernel_makers,
    kernels,
    python,
    wait_for_nothing,
)
from tests.support import wait_until

__all__ = ["calm", "kernels", "python"]

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(rounds(120, 600))]

ANSI = re.compile(r"\x1b\[[0-9;]*m")
LOOPS = ["thread", "kernel"]
SOME_LOOPS = LOOPS if WHOLE else ["thread"]
PATIENT = {"LOGMESH_FLUSH_TIMEOUT_SEC": "30"}
"""A barrier that only an interrupt ends soon."""
SOON_SEC = 5.0
"""What an interrupt may take on a busy machine; no barrier here ends so soon by itself."""
MESH = "get_ipython().magics_manager.registry['LogMeshMagics'].session.mesh"
HOOKS = (
    "sorted(f'{event} {hook.__qualname__}' "
    "for event, hooks in get_ipython().events.callbacks.items() "
    "for hook in hooks if 'logmesh' in hook.__module__)"
)
ONE_HOOK = "['post_run_cell CellFlush._post', 'pre_run_cell CellFlush._pre']"
THREADS = "sorted(t.name for t in __import__('threading').enumerate() if 'logmesh' in t.name)"


@pytest.fixture
def nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """What is left is looked for where the kernels are; clients of kernels keep sockets here."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return str(tmp_path)


@pytest.fixture(scope="module")
def calm(python: str) -> Iterator[Kernel]:
    """One kernel with a mesh of two procs, for tests that leave it as it was."""
    for maker in kernel_makers(python):
        yield maker("")


def pids(kernel: Kernel) -> List[int]:
    """Of the procs, by rank."""
    return [int(pid) for pid in kernel.value(f"[p.pid for p in {MESH}.procs]")[1:-1].split(",")]


def homes(kernel: Kernel, word: str) -> List[Tuple[str, str]]:
    """Under which cells a word stands, and who says it."""
    return sorted(
        (cell.request, line.removesuffix(word))
        for cell in kernel.notebook().values()
        for line in cell.lines
        if line.endswith(word)
    )


def says(kernel: Kernel, word: str, ranks: Sequence[int] = (0, 1)) -> Cell:
    """A cell in which ranks say a word; it stands under this cell and only there.

    On stderr: what writers write to stdout may have no end yet.
    """
    chosen = ",".join(map(str, ranks))
    cell = kernel.run(
        f"%%logmesh run --ranks {chosen}\nimport sys; print({word!r}, file=sys.stderr)"
    )
    expected = [(cell.request, f"[{rank} err] ") for rank in ranks]
    wait_until(lambda: homes(kernel, word) == expected, what=lambda: (homes(kernel, word), word))
    return cell


def write(
    kernel: Kernel, trial: Trial, *, lines: int, rate: float, ranks: int = 2
) -> Dict[int, int]:
    """A thread in each of the first procs writes on, behind the cell; gives procs by source."""
    first = trial.new_sources(ranks)
    kernel.run(
        f"%%logmesh run --ranks 0-{ranks - 1}\n"
        "import os, threading\n"
        "from tests.faults.writer import write_lines\n"
        f"threading.Thread(target=write_lines, daemon=True, args=({trial.path!r}, {trial.number},"
        f" {first} + int(os.environ['RANK'])), kwargs=dict(lines={lines}, rate={rate})).start()"
    )
    return {first + rank: rank for rank in range(ranks)}


def judge(kernel: Kernel, trial: Trial, of: Dict[int, int], *, whole: bool = True) -> str:
    """The ledger as the kernel's store has it, printed and found clean.

    ``of`` gives each writer's proc. ``whole``: nothing is missing either.
    """
    cell = kernel.run(
        "from tests.faults.oracle import Oracle\n"
        "from tests.faults.writer import Tally\n"
        f"oracle = Oracle(Tally({trial.path!r}), {trial.number})\n"
        f"oracle.of = {of!r}\n"
        "ledger = oracle.judge(instance, lambda row: row.text.startswith(b'said '))\n"
        "str(ledger)"
    )
    ledger = str(cell.result).strip("'")
    sys.stdout.write(f"ledger: {ledger}\n")
    assert cell.result is not None, cell.error
    bad = r"(duplicate|spurious|corrupt) [1-9]"
    assert not re.search(bad, ledger), ledger
    if whole:
        assert kernel.value("ledger.clean") == "True", ledger
    return ledger


def keep_instance(kernel: Kernel) -> None:
    """The names that ``judge`` needs, also when the mesh has gone."""
    kernel.run("from logmesh_ipy import context\ninstance = context().actor_instance")


# --- interrupts -----------------------------------------------------------------------------------


def interrupted(kernel: Kernel, code: str, dice: random.Random) -> Tuple[Cell, float]:
    """A cell that is interrupted while a barrier waits; and how long it took from then on."""
    request = kernel.send(f"print('begins')\n{code}")
    wait_until(lambda: "begins" in kernel.shown(request).stdout)
    time.sleep(dice.uniform(0.05, 0.5))
    began = time.monotonic()
    kernel.interrupt()
    cell = kernel.finish(request)
    return cell, time.monotonic() - began


@pytest.mark.parametrize("loop", LOOPS)
def test_an_interrupt_ends_a_barrier_that_waits_and_nothing_else(
    kernels: KernelMaker, trial: Trial, seed: random.Random, loop: str
) -> None:
    lines = rounds(300, 3_000)
    kernel = kernels(f"--loop {loop}", **PATIENT)
    keep_instance(kernel)
    # A stopped proc with output gets another forwarder, which answers; one without is waited for.
    of = write(kernel, trial, lines=lines, rate=100, ranks=1)
    stopped = pids(kernel)[1]
    seconds: List[float] = []
    ways = ["%logmesh flush", "report = %logmesh flush --timeout 60"]
    if loop == "thread":  # else the barrier behind a cell is not awaited
        ways.append("0")
    for number, way in enumerate(ways * rounds(1, 10)):
        freeze(stopped)
        cell, took = interrupted(kernel, way, seed)
        seconds.append(took)
        said = ANSI.sub("", cell.stderr + cell.error)
        assert took < SOON_SEC
        assert "the barrier was interrupted" in said
        assert "Traceback" not in said
        assert "logmesh_ipy" not in said
        assert ("KeyboardInterrupt" in said) == (way != "0")
        request = cell.request
        wait_until(lambda request=request: kernel.shown(request).receipt)
        assert kernel.shown(request).receipt.endswith("0 lost; late: rank 1")
        began = time.monotonic()
        says(kernel, f"said to one {number}.", ranks=[0])
        assert time.monotonic() - began < SOON_SEC  # the late one is not waited for again
        thaw(stopped)
        wait_until(lambda: kernel.run("report = %logmesh flush\nbool(report)").result == "True")
        says(kernel, f"said to all {number}.")
        assert kernel.value(HOOKS) == ONE_HOOK
    sys.stdout.write(f"{loop}: {len(seconds)} barriers ended within {max(seconds):.2f} s\n")
    trial.wait_for_lines(list(of), lines)
    report = kernel.run("report = %logmesh flush\nbool(report), report.late")
    assert report.result == "(True, ())"
    judge(kernel, trial, of)


MOMENTS = [
    "0",
    "import time; time.sleep(0.03)",
    "%%logmesh run\nprint(1)",
    "%%logmesh run\nimport time; time.sleep(0.05)",
    "%logmesh flush",
    "%logmesh exec -- true",
    "%logmesh status",
    "import asyncio; await asyncio.sleep(0.03)",
]


def ends(kernel: Kernel, request: str) -> bool:
    """Waits for the end of a request; False where ipykernel has lost it, and answers the next.

    It does so, without this package too, where an interrupt comes while it deals with another one
    outside of the cell; of that one it says "caught in kernel".
    """
    try:
        wait_until(lambda: kernel.is_over(request), 10, kernel.words)
    except AssertionError:
        assert "KeyboardInterrupt caught in kernel" in kernel.words()
        assert kernel.value("1 + 1") == "2"
        return False
    return True


@pytest.mark.parametrize("loop", SOME_LOOPS)
def test_interrupts_at_any_moment_leave_a_notebook_that_works(
    kernels: KernelMaker, seed: random.Random, loop: str
) -> None:
    kernel = kernels(f"--loop {loop}")
    slowest = 0.0
    for _ in range(rounds(8, 150)):
        request = kernel.send(seed.choice(MOMENTS))
        for _ in range(seed.choice((1, 1, 2))):
            time.sleep(seed.uniform(0.0, 0.06))
            kernel.interrupt()
        began = time.monotonic()
        # Not for its reply: ipykernel gives none where it is interrupted between cell and reply.
        if ends(kernel, request):
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < SOON_SEC
    sys.stdout.write(f"{loop}: cells ended within {slowest:.2f} s of their interrupts\n")
    ends(kernel, kernel.send("pass"))  # which a late interrupt may hit
    wait_until(lambda: kernel.run("report = %logmesh flush\nbool(report)").result == "True")
    says(kernel, "still there")
    assert kernel.value(HOOKS) == ONE_HOOK
    threads = ast.literal_eval(kernel.value(THREADS))
    assert len(threads) == len(set(threads)), threads


@pytest.mark.parametrize("loop", SOME_LOOPS)
def test_a_stop_that_is_interrupted_goes_on_and_a_start_can_follow(
    kernels: KernelMaker, seed: random.Random, loop: str
) -> None:
    kernel = kernels(f"--loop {loop}", LOGMESH_FLUSH_TIMEOUT_SEC="4")
    for number in range(rounds(1, 5)):
        old = pids(kernel)
        freeze(old[1])
        cell, took = interrupted(kernel, "%logmesh stop", seed)
        assert took < SOON_SEC
        assert "the mesh goes on ending" in cell.error
        assert "Traceback" not in cell.error
        assert kernel.value(HOOKS) == "[]"
        started = kernel.run(f"%logmesh start --procs 2 --loop {loop}")
        assert "2 procs on" in started.stdout, (started.error, started.stderr)
        assert not [pid for pid in old if Path(f"/proc/{pid}").exists()]
        cell = says(kernel, f"anew {number}")
        wait_until(lambda request=cell.request: kernel.shown(request).receipt)
        assert kernel.shown(cell.request).receipt == "2/2 procs, 2 lines, 0 lost"
        assert kernel.value(HOOKS) == ONE_HOOK
    assert kernel.run("%unload_ext logmesh_ipy").stderr == ""
    assert not wait_for_nothing(kernels.directory, 5.0)


# --- restarts, loading, unloading -----------------------------------------------------------------


def test_restarts_amid_a_stream_leave_nothing(kernels: KernelMaker, trial: Trial) -> None:
    kernel = kernels()
    seconds: List[float] = []
    for number in range(rounds(3, 20)):
        kernel.run("%load_ext logmesh_ipy")
        cell = kernel.run(f"%logmesh start --procs 2 --loop {LOOPS[number % 2]}")
        assert "2 procs on" in cell.stdout, (cell.error, cell.stderr)
        of = write(kernel, trial, lines=1_000_000, rate=200)
        trial.wait_for_lines(list(of), 20)
        says(kernel, f"round {number}.")
        assert kernel.value(HOOKS) == ONE_HOOK
        restarted_at = time.monotonic()
        kernel.restart()
        assert not wait_for_nothing(kernels.directory, 2.0)
        seconds.append(time.monotonic() - restarted_at)
    sys.stdout.write(f"{len(seconds)} restarts, each {max(seconds):.2f} s at most\n")


@pytest.mark.parametrize("loop", SOME_LOOPS)
def test_loading_twice_reloading_and_unloading_amid_a_stream(
    kernels: KernelMaker, trial: Trial, loop: str
) -> None:
    kernel = kernels(f"--loop {loop}")
    before = kernel.value("sorted(get_ipython().magics_manager.magics['line'])")
    for number in range(rounds(1, 5)):
        keep_instance(kernel)
        of = write(kernel, trial, lines=1_000_000, rate=200)
        trial.wait_for_lines(list(of), 50)
        assert "already loaded" in kernel.run("%load_ext logmesh_ipy").stdout
        kernel.run("import logmesh_ipy; logmesh_ipy.load_ipython_extension(get_ipython())")
        assert kernel.value(HOOKS) == ONE_HOOK
        says(kernel, f"twice {number}.")
        # What was written when the mesh was stopped is there; what came later may not be.
        written = {source: trial.has_written(source) for source in of}
        cell = kernel.run("%unload_ext logmesh_ipy" if number % 2 else "%reload_ext logmesh_ipy")
        assert cell.reply["status"] == "ok", cell.error
        assert cell.stderr == ""
        assert kernel.value(HOOKS) == "[]"
        wait_until(lambda: kernel.value(THREADS) == "[]", what=lambda: kernel.value(THREADS))
        assert not wait_for_nothing(kernels.directory)
        stored = ast.literal_eval(
            kernel.value(
                "{n: r.ledgers[1].totals.stored_bytes for n, r in instance.actor.records.items()}"
            )
        )
        assert all(size <= stored[of[source]] for source, size in written.items())
        kernel.run("%load_ext logmesh_ipy")
        assert kernel.value("sorted(get_ipython().magics_manager.magics['line'])") == before
        assert "2 procs on" in kernel.run(f"%logmesh start --procs 2 --loop {loop}").stdout
    says(kernel, "at last")


# --- nested, awaited, outliving -------------------------------------------------------------------

INNER = "get_ipython().run_cell('%%logmesh run\\nprint(\"WORD\")')"
NESTED = {
    "run_cell": INNER,
    "twice": f"get_ipython().run_cell({INNER!r})",
    "after a failure": f"get_ipython().run_cell('1 / 0')\n{INNER}",
    "before a failure": f"{INNER}\n1 / 0",
    "run": "%run -i SCRIPT",
    "notebook": "%run NOTEBOOK",
    "await": f"import asyncio\nawait asyncio.sleep(0)\n{INNER}",
}


def test_nested_cells_belong_to_the_outer_one(calm: Kernel, tmp_path: Path) -> None:
    kernel = calm
    for name, code in NESTED.items():
        word = f"nested {name}"
        script, notebook = tmp_path / "script.py", tmp_path / "notebook.ipynb"
        magic = f"get_ipython().run_cell_magic('logmesh', 'run', 'print({word!r})')"
        script.write_text(magic.replace(f"{word!r}", f'"{word}"'))
        cells = [
            {
                "cell_type": "code",
                "source": script.read_text(),
                "metadata": {},
                "outputs": [],
                "execution_count": None,
            }
        ]
        notebook.write_text(
            json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4})
        )
        filled = code.replace("WORD", word).replace("SCRIPT", str(script))
        cell = kernel.run(filled.replace("NOTEBOOK", str(notebook)))
        assert homes(kernel, word) == [(cell.request, f"[{rank}] ") for rank in (0, 1)], (
            name,
            cell,
        )
        assert cell.receipt == "2/2 procs, 2 lines, 0 lost", name
        assert len(cell.snapshots) == 1
        assert (cell.ename == "ZeroDivisionError") == ("failure" in name)
        assert kernel.value(HOOKS) == ONE_HOOK


@pytest.mark.parametrize("loop", SOME_LOOPS)
def test_tasks_and_threads_that_outlive_their_cells_print_under_the_one_that_runs(
    kernels: KernelMaker, trial: Trial, seed: random.Random, loop: str
) -> None:
    kernel = kernels(f"--loop {loop}")
    keep_instance(kernel)
    kernel.run(
        "import asyncio, threading\n"
        f"mesh = {MESH}\n"
        "said, going = [], -1\n"
        "async def later(word, number):\n"
        "    while going < number: await asyncio.sleep(0.01)\n"
        "    await mesh.run(f'import sys; print({word!r}, file=sys.stderr)')\n"
        "    said.append(word)\n"
        "def in_thread(word, number): asyncio.run(later(word, number))"
    )
    of = write(kernel, trial, lines=(lines := rounds(60, 1_000)), rate=40)
    for number in range(rounds(1, 20)):
        words = [f"said by a task {number}.", f"said by a thread {number}."]
        kernel.run(
            f"task = asyncio.get_running_loop().create_task(later({words[0]!r}, {number}))\n"
            f"threading.Thread(target=in_thread, args=({words[1]!r}, {number})).start()\n"
            "await asyncio.sleep(0)"
        )
        for _ in range(seed.randrange(3)):
            kernel.run("0")
        runs = kernel.run(
            f"going = {number}\nwhile len(said) < {2 * number + 2}: await asyncio.sleep(0.01)\n"
            "report = await mesh.flush(20)"  # with the kernel's loop no cell waits for it by itself
        )
        kernel.run("report = %logmesh flush")
        for word in words:
            wait_until(
                lambda word=word: len(homes(kernel, word)) == 2,
                what=lambda word=word: homes(kernel, word),
            )
            assert homes(kernel, word) == [(runs.request, f"[{r} err] ") for r in (0, 1)]
    trial.wait_for_lines(list(of), lines)
    assert kernel.run("report = %logmesh flush\nbool(report)").result == "True"
    judge(kernel, trial, of)
    assert "never retrieved" not in kernel.words()


def test_a_cell_of_a_subshell_runs_beside_another_one(calm: Kernel, tmp_path: Path) -> None:
    kernel = calm
    features = kernel.ask(kernel.client.kernel_info()).get("supported_features", [])
    if "kernel subshells" not in features:
        pytest.skip("this ipykernel has no subshells")
    subshell = kernel.new_subshell()
    kernel.run(
        f"import time\nmesh = {MESH}\nsay = lambda word: mesh.run(f'print({{word!r}})').get(20)"
    )
    go_on = tmp_path / "go on"
    slow = kernel.send(
        f"import os\nsay('first')\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.01)\n"
        "say('last')"
    )
    wait_until(lambda: homes(kernel, "first"))
    beside = kernel.send("say('beside')", subshell=subshell)
    wait_until(lambda: kernel.shown(beside).receipt)
    go_on.touch()
    kernel.finish(slow)
    for word, request in (("first", slow), ("beside", beside), ("last", slow)):
        assert homes(kernel, word) == [(request, f"[{rank}] ") for rank in (0, 1)], word
    assert kernel.shown(slow).receipt == "2/2 procs, 4 lines, 0 lost"
    assert kernel.shown(beside).receipt == "2/2 procs, 2 lines, 0 lost"


# --- hooks that raise -----------------------------------------------------------------------------

RAISING = """
def raises(kind):
    def hook(*args):
        raise kind('on purpose')
    return hook

hooks = [(event, raises(kind)) for event in ('pre_run_cell', 'post_run_cell')
         for kind in (ValueError, KeyboardInterrupt)]
for event, hook in hooks: FIRST
"""
FIRST = {
    "behind ours": "get_ipython().events.register(event, hook)",
    "before ours": "get_ipython().events.callbacks[event].insert(0, hook)",
}


@pytest.mark.parametrize("place", FIRST)
def test_hooks_of_others_that_raise_change_nothing(calm: Kernel, place: str) -> None:
    kernel = calm
    kernel.run(RAISING.replace("FIRST", FIRST[place]))
    for number in range(rounds(1, 20)):
        cell = says(kernel, f"{place} {number}.")
        assert cell.receipt == "2/2 procs, 2 lines, 0 lost"
        assert cell.stdout.count("Error in callback") == 4
    kernel.run("for event, hook in hooks: get_ipython().events.unregister(event, hook)")
    assert says(kernel, f"{place}, at last").stdout == ""


@pytest.mark.parametrize("ours", ["_on_begin", "_on_end", "_show", "_receipt"])
def test_our_own_hooks_that_raise_cost_their_cell_only(calm: Kernel, ours: str) -> None:
    """What raises there is a fault of ours; the next cell shows its lines, and nothing hangs."""
    holder = "session._cells" if ours.startswith("_on_") else "session"
    calm.run(
        f"session = {MESH.removesuffix('.mesh')}\n"
        "def fails(*args, **kwargs): raise RuntimeError('on purpose')\n"
        f"kept, {holder}.{ours} = {holder}.{ours}, fails"
    )
    failed = calm.run("%%logmesh run\nprint('of a cell that fails')")
    assert "on purpose" in ANSI.sub("", failed.error)
    calm.run(f"{holder}.{ours} = kept")
    cell = says(calm, f"after {ours}")
    assert cell.receipt == "2/2 procs, 2 lines, 0 lost"
    assert calm.value(HOOKS) == ONE_HOOK
