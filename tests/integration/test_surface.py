"""What Python code sees of a mesh: lines on the screen, environments, errors of every text."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from logmesh_ipy import LoggingMeshClient, MeshError
from logmesh_ipy.errors import MeshStateError, TransportError
from logmesh_ipy.instance import context
from logmesh_ipy.mesh import this_host
from tests.support import wait_until

from .conftest import MeshMaker, mesh_threads, texts

ROOT = Path(__file__).parents[2]

SCRIPT = """
import logging
from logmesh_ipy import LoggingMeshClient, context, this_host

mesh = this_host().spawn_procs(2).get(20)
instance = context().actor_instance
client = LoggingMeshClient.spawn(instance, mesh).get(10)
window = {window}
client.set_mode(instance, True, window, logging.INFO)
mesh.run("import sys; print('out', 7); print('bad', file=sys.stderr)").get(10)
assert client.flush(instance).get(10)
print("flushed", flush=True)
mesh.stop().get(10)
"""


def run_script(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_script_prints_what_its_procs_print_before_the_flush_returns() -> None:
    done = run_script(SCRIPT.format(window=None))
    before, after = done.stdout.split("flushed\n")
    assert sorted(before.splitlines()) == ["[0] out 7", "[1] out 7"]
    assert after == ""
    assert sorted(done.stderr.splitlines()) == ["[0 err] bad", "[1 err] bad"]


def test_a_script_with_a_window_prints_groups() -> None:
    done = run_script(SCRIPT.format(window=3))
    before, _ = done.stdout.split("flushed\n")
    assert before.startswith(">>> Aggregated Logs (")
    assert "[0-1 2×] out 7" in before.splitlines()
    assert done.stderr == "[0-1 err 2×] bad\n"


def test_the_view_of_an_instance_ends_with_it(start: MeshMaker) -> None:
    mesh = start(1)
    LoggingMeshClient.spawn(mesh.instance, mesh).get(10)
    assert "logmesh-view" in mesh_threads()
    assert mesh.instance.meshes == [mesh]
    mesh.stop().get(10)
    assert mesh.instance.meshes == []
    wait_until(lambda: not mesh_threads(), what=mesh_threads)


def test_an_error_that_utf8_cannot_carry_is_told_and_spares_the_other_ranks(
    start: MeshMaker,
) -> None:
    mesh = start(2)
    source = "import os\nif os.environ['RANK'] == '1': raise FileNotFoundError('x\\udc80')\n7"
    with pytest.raises(MeshError) as caught:
        mesh.run(source).get(10)
    assert caught.value.rank == 1
    assert caught.value.errors[1].kind == "FileNotFoundError"
    assert caught.value.errors[1].message == "x\\udc80"
    assert caught.value.results == {0: 7}


def test_a_command_has_what_was_set_since_the_mesh_began(
    start: MeshMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = start(1)
    monkeypatch.setenv("SET_LATER", "yes")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    mesh.exec(["sh", "-c", 'echo "$SET_LATER"; command -v python']).get(10).wait().get(10)
    own = os.path.join(os.path.dirname(sys.executable), "python")
    assert texts(mesh) == ["yes", own]


def test_basic_config_of_the_users_code_works_as_ever(start: MeshMaker) -> None:
    mesh = start(1, level=logging.INFO)
    mesh.run(
        "import logging\n"
        "logging.getLogger('early').info('before')\n"
        "logging.basicConfig(format='mine: %(message)s', level=logging.DEBUG)\n"
        "logging.getLogger('late').debug('after')"
    ).get(10)
    mesh.flush().get(10)
    assert texts(mesh, target=2) == ["INFO:early:before", "mine: after"]


def test_a_start_that_cannot_serve_leaves_nothing_and_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(TransportError, match="longer than"):
        this_host().spawn_procs(1).get(20)
    wait_until(lambda: not mesh_threads(), what=mesh_threads)
    assert not list(deep.iterdir())
    monkeypatch.setattr("tempfile.tempdir", None)

    async def again() -> None:
        mesh = await this_host().spawn_procs(1)
        assert await mesh.run("3") == {0: 3}
        await mesh.stop()

    asyncio.run(again())
    context().actor_instance.close_unused()


def test_the_logs_of_a_mesh_are_its_own_and_its_jobs_as_data(start: MeshMaker) -> None:
    mesh, other = start(2), start(1)
    mesh.run("import os, sys; r = os.environ['RANK']; print('one', r); print('two', r)").get(10)
    mesh.run("print('ERROR: bad', file=sys.stderr)", ranks=1).get(10)
    other.run("print('not ours')").get(10)
    job = mesh.exec(["sh", "-c", "echo job $RANK"], ranks="1").get(10)
    job.wait().get(10)
    mesh.flush().get(10)
    other.flush().get(10)
    logs = mesh.logs
    assert sorted(logs.to_polars()["text"].to_list()) == [
        "ERROR: bad", "job 1", "one 0", "one 1", "two 0", "two 1",
    ]  # fmt: skip
    assert other.logs.to_text() == "[0] not ours\n"
    [bad] = logs.where(level="ERROR", ranks="1").to_arrow().to_pylist()
    pid = mesh.run("os.getpid()").get(10)[1]
    told = {name: bad[name] for name in ("rank", "pid", "stream", "level", "text", "job", "host")}
    assert told == {
        "rank": 1, "pid": pid, "stream": "stderr", "level": 40, "text": "ERROR: bad", "job": "",
        "host": mesh.instance.hostname,
    }  # fmt: skip
    assert [row.text for row in logs.where(job=job.name)] == [b"job 1"]
    assert abs(bad["time"].timestamp() - time.time()) < 60
    mesh.stop().get(10)
    other.stop().get(10)
    assert len(logs) == len(mesh.logs) == 6
    mesh.instance.store.close()
    with pytest.raises(MeshStateError, match="store was closed"):
        logs.to_arrow()
