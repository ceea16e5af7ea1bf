"""Whatever bytes a proc writes and however: raw files hold them, and the store's lines are right.

Right is what a splitter gives that is fed with all of them at once; ``tests/unit/test_lines.py``
holds that one against its rule.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import itertools
import os
import random
import secrets
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Sequence, Tuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logmesh_ipy import ProcMesh, this_host
from logmesh_ipy.channel import serve
from logmesh_ipy.config import HostOptions, MeshOptions
from logmesh_ipy.handshake import Role
from logmesh_ipy.lines import DEFAULT_MAX_LINE_BYTES, Lines, LineSplitter
from logmesh_ipy.local_log_sender import LocalLogSender
from logmesh_ipy.log_client_actor import LogClientActor
from logmesh_ipy.log_forward_actor import LogForwardActor
from logmesh_ipy.model import STREAMS, OutputTarget, ProcInfo
from logmesh_ipy.sequence import SendQueue
from logmesh_ipy.store import LogStore
from logmesh_ipy.stream_fwder import RecentLines, StreamFwder
from logmesh_ipy.uplink import Uplink
from logmesh_ipy.wire import decode
from tests.faults.conftest import rounds
from tests.integration.conftest import MeshMaker, until

OUT = OutputTarget.STDOUT
LIMIT = DEFAULT_MAX_LINE_BYTES
PAYLOADS: Dict[str, bytes] = {
    "nothing": b"",
    "one newline": b"\n",
    "newlines": b"\n" * 300,
    "no final newline": b"first\nlast",
    "nul": b"\0\0a\0b\n\0\n\0",
    "crlf": b"one\r\ntwo\r\n\r\nthree\r\n",
    "lone cr": b"10%\r20%\r30%\rdone\nlast\r\r\r\n\r",
    "early cr": b"a\rbcdefghij\n12\r3456789\n\rxyzuvwabc\n",
    "other separators": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei\n\u2028\n".encode(),
    "invalid utf-8": b"\xff\xfe\xc3(\xe2\x82\n\x80\xed\xa0\x80\xf8\x88\n\xf0\x9f\x98",
    "many bytes a character": "äöü 数据 😀 👩‍🚀\n".encode() * 20,
    "escapes": b"\x1b[31mred\x1b[0m\x1b]0;title\x07\n\x9b2J\x90q\x1b\\\n",
    "longer than the limit": b"x" * 70_000 + b"\nshort\n" + b"10%\r" * 30_000 + b"\nend",
    "exactly the limit": b"y" * LIMIT + b"\n" + b"z" * (LIMIT + 1),
}  # fmt: skip
ALL = b"".join(PAYLOADS.values())

WRITER = """
import os, random, sys

def write(path, most, seed):
    data = open(path, "rb").read()
    dice = random.Random(seed)
    while data:
        size = min(len(data), dice.randint(1, most))
        os.write(1, data[:size])
        data = data[size:]
"""
AS_COMMAND = f"{WRITER}\nwrite(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))"


def joined(parts: Iterable[Lines]) -> Lines:
    """All of them as one."""
    pieces, out = [], Lines()
    for part in parts:
        pieces.append(part.data)
        out.marks += [replace(mark, index=out.count + mark.index) for mark in part.marks]
        out.count += part.count
    out.data = b"".join(pieces)
    return out


def at_once(data: bytes, max_line_bytes: int = LIMIT) -> Lines:
    """What the store must hold of a stream that has ended."""
    splitter = LineSplitter(max_line_bytes)
    return joined([splitter.feed(data), splitter.cut()])


def stored(store: LogStore, proc: int) -> Lines:
    """What the store holds of a proc's stdout."""
    chunks = [c for c in store.read() if (c.info.proc, c.target) == (proc, OUT)]
    for chunk, following in itertools.pairwise(chunks):
        assert following.first_line == chunk.first_line + chunk.count
    return joined(Lines(chunk.data, chunk.count, list(chunk.marks)) for chunk in chunks)


def sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def raw_file(mesh: ProcMesh, proc: int) -> str:
    path: str = mesh.host_status().get(10)[str(proc)]["files"]["stdout"]
    return path


# --- whole meshes -------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 7, 100_000], ids=["one byte per write", "some", "many"])
def test_what_commands_write_is_what_files_and_store_hold(
    start: MeshMaker, seed: random.Random, tmp_path: Path, most: int
) -> None:
    mesh = start(1, files=str(tmp_path / "files"))
    jobs = {}
    for name, payload in PAYLOADS.items():
        data = payload[-rounds(500, 20_000) :] if most == 1 else payload
        (tmp_path / name).write_bytes(data)
        dice = str(seed.randrange(1 << 30))
        argv = [sys.executable, "-c", AS_COMMAND, str(tmp_path / name), str(most), dice]
        jobs[name] = (mesh.exec(argv).get(30), data)
    for name, (job, data) in jobs.items():
        assert job.wait().get(60) == {0: 0}
        (proc,) = job.rank_of
        assert stored(mesh.instance.store, proc) == at_once(data), name
        assert sha256(raw_file(mesh, proc)) == hashlib.sha256(data).hexdigest(), name


@pytest.mark.parametrize("most", [1, 100_000], ids=["one byte per write", "many"])
def test_what_procs_write_is_what_files_and_store_hold(
    start: MeshMaker, seed: random.Random, tmp_path: Path, most: int
) -> None:
    mesh = start(2, files=str(tmp_path / "files"))
    data = ALL if most > 1 else b"".join(part[-500:] for part in PAYLOADS.values())
    (tmp_path / "all").write_bytes(data)
    mesh.run(WRITER).get(10)
    mesh.run(f"write({str(tmp_path / 'all')!r}, {most}, {seed.randrange(99)})").get(60)
    assert mesh.flush(30).get(40)
    for proc in mesh.procs:
        splitter = LineSplitter()
        assert stored(mesh.instance.store, proc.proc) == splitter.feed(data)
        assert sha256(raw_file(mesh, proc.proc)) == hashlib.sha256(data).hexdigest()
    assert {line.text for line in mesh.instance.store.open_lines()} == {splitter.open_line[0]}


# --- every split --------------------------------------------------------------------------------

noisy = st.lists(
    st.sampled_from([
        b"\n", b"\r", b"\r\n", b"\0", b"a", b"bc", "\u2028".encode(), "é".encode(), "😀".encode(),
        b"\xff", b"\xe2\x82", b"\x1b[31m", b"x" * 30, b"\x85",
    ]),
    max_size=40,
).map(b"".join)  # fmt: skip


@st.composite
def cut_data(draw: st.DrawFn) -> Tuple[bytes, List[int]]:
    data = draw(noisy)
    return data, sorted(draw(st.sets(st.integers(0, len(data)), max_size=8)))


class _NoOwner:
    def sender_lost(self, sender: LocalLogSender) -> None:
        raise AssertionError("the sender's connection broke")


async def _through_the_mesh(pieces: Sequence[bytes], max_line_bytes: int) -> Lines:
    """Each piece is a write, a read and a batch: pipe > sender > forwarder > client > store."""
    directory, token = tempfile.mkdtemp(prefix="logmesh-"), secrets.token_bytes(32)
    store = LogStore(max_line_bytes=max_line_bytes)
    client = LogClientActor(store)
    record = client.expect(ProcInfo(proc=0, rank=0, hostname="", pid=1), has_runtime=False)
    server = await serve(f"unix:{directory}/client.sock", lambda connection: client, token)
    forwarder = LogForwardActor(f"unix:{directory}/p0.sock", proc=0)
    uplink = Uplink(
        server.address, token, Role.FORWARDER, "0",
        on_frame=lambda kind, body: forwarder.client_message(decode(kind, body)),
        on_up=forwarder.link_up, on_down=forwarder.link_down,
    )  # fmt: skip
    forwarder.use_link(uplink)
    uplink.start()
    await forwarder.start()
    fwders: Dict[OutputTarget, StreamFwder] = {}
    writes: Dict[OutputTarget, int] = {}
    for target in STREAMS:
        read, writes[target] = os.pipe()
        os.set_blocking(read, False)
        sender = LocalLogSender(
            _NoOwner(), SendQueue(), proc=0, epoch=1, target=target, pid=1, hostname="h"
        )
        fwders[target] = StreamFwder(read, sender, recent=RecentLines(100))
    for fwder in fwders.values():
        await fwder.sender.connect(forwarder.address, 1)
    for piece in pieces:
        if piece:
            os.write(writes[OUT], piece)
            assert fwders[OUT].read_available() == len(piece)
    for target in STREAMS:
        os.close(writes[target])
        fwders[target].read_to_end()
    try:
        await until(lambda: record.ended and all(f.sender.finished for f in fwders.values()))
        return stored(store, 0)
    finally:
        for fwder in fwders.values():
            fwder.sender.disconnect()
        uplink.close()
        forwarder.close()
        server.close()
        store.close()
        shutil.rmtree(directory)
        await asyncio.sleep(0.002)  # asyncio closes sockets a turn later


@pytest.mark.timeout(rounds(120, 600))
@settings(max_examples=rounds(60, 1000))
@given(cut_data(), st.sampled_from([1, 2, 5, 16, 1000]))
@example((b"a\r\n\xe2\x82\xacb", [1, 2, 3, 4, 5, 6]), 2)
@example((b"a\rbcdefgh\n", [3]), 5)
def test_every_split_of_every_chunk_gives_the_same_lines(
    given_data: Tuple[bytes, List[int]], max_line_bytes: int
) -> None:
    data, cuts = given_data
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert asyncio.run(_through_the_mesh(pieces, max_line_bytes)) == at_once(data, max_line_bytes)


@pytest.mark.parametrize("max_line_bytes", [3, 5, 1000])
def test_one_byte_per_read_gives_the_same_lines(max_line_bytes: int) -> None:
    for name, data in PAYLOADS.items():
        pieces = [bytes([byte]) for byte in data[:400]]
        lines = asyncio.run(_through_the_mesh(pieces, max_line_bytes))
        assert lines == at_once(data[:400], max_line_bytes), name


# --- memory -------------------------------------------------------------------------------------

LONG_BYTES = rounds(20, 100) << 20
EMPTY_LINES = 1_000_000
MEMORY_BYTES = 32 << 20
"""What the kernel and the bootstrap may take on top, whatever is written: the store's 4 MiB here,
a stream's window on the host, and what is on its way."""

LONG_WRITER = """
import hashlib, os, sys
total, unit, end, told = int(sys.argv[1]), eval(sys.argv[2]), eval(sys.argv[3]), sys.argv[4]
piece, left, sha = unit * (65_536 // len(unit)), total, hashlib.sha256()
while left:
    data = piece[:left]
    left -= len(data)
    if not left:
        data += end
    sha.update(data)
    view = memoryview(data)
    while view:
        view = view[os.write(1, view):]
with open(told, "w") as file:
    file.write(sha.hexdigest())
"""


def reset_peak(pid: int) -> int:
    """Have the system forget how much memory a process has taken at most; what it takes now."""
    if pid == os.getpid():
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed before would hide what is taken
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_bytes(pid)


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


class Long(NamedTuple):
    """What is written: so many bytes of a unit, then an end."""

    unit: bytes
    total: int
    end: bytes
    lines: int


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(Long(b"long ", LONG_BYTES, b"\nafter\n", 2), id="long line"),
        pytest.param(Long(b"open ", LONG_BYTES, b"", 1), id="unfinished"),
        pytest.param(Long(b"\r  7%|###   | 7/100", LONG_BYTES, b"\nafter\n", 2), id="bar"),
        pytest.param(Long(b"\xff\0\r", LONG_BYTES, b"\nafter\n", 2), id="no text"),
        pytest.param(Long(b"\n", EMPTY_LINES, b"", EMPTY_LINES), id="empty lines"),
    ],
)
def test_memory_is_bounded_whatever_is_written(
    start: MeshMaker, tmp_path: Path, what: Long
) -> None:
    options = MeshOptions(
        store_memory_bytes=4 << 20,
        host=HostOptions(files=str(tmp_path / "files"), file_max_bytes=1 << 30),
    )
    mesh = this_host().spawn_procs(1, options=options).get(20)
    start.meshes.append(mesh)
    pids = {"kernel": os.getpid(), "bootstrap": mesh._host._handle._process.pid}
    argv = [sys.executable, "-c", "pass"]
    mesh.exec(argv).get(20).wait().get(20)  # what the first command costs is no part of it
    before = {name: reset_peak(pid) for name, pid in pids.items()}
    told = tmp_path / "sha256"
    writer = [
        sys.executable,
        "-c",
        LONG_WRITER,
        str(what.total),
        repr(what.unit),
        repr(what.end),
        str(told),
    ]
    job = mesh.exec(writer).get(20)
    assert job.wait().get(60) == {0: 0}
    took = {name: peak_bytes(pid) - before[name] for name, pid in pids.items()}
    sys.stdout.write(f"took at most { ({n: f'{b >> 10:,} KiB' for n, b in took.items()}) }\n")
    (proc,) = job.rank_of
    assert sha256(raw_file(mesh, proc)) == told.read_text()
    assert max(took.values()) < MEMORY_BYTES, took
    piece = what.unit * (65_536 // len(what.unit))
    data = (piece * (what.total // len(piece) + 1))[: what.total] + what.end
    lines = stored(mesh.instance.store, proc)
    assert lines.count == what.lines
    assert lines == at_once(data)
