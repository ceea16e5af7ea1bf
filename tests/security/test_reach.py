"""What of a mesh can be reached: no port, no abstract name, nothing that another user may touch."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Callable, Dict, List, Optional, Set, Tuple

import pytest

from logmesh_ipy import ProcMesh, this_host
from logmesh_ipy.addresses import socket_path
from logmesh_ipy.channel import Connection, Server, dial, serve
from logmesh_ipy.config import MeshOptions
from logmesh_ipy.errors import HandshakeError, MeshStateError, OptionError, TransportError
from logmesh_ipy.gate import Reason
from logmesh_ipy.instance import Instance, context
from tests.faults.conftest import nothing_is_left, seed, start
from tests.integration.conftest import MeshMaker, run_async, until
from tests.support import session_processes, wait_until

__all__ = ["nothing_is_left", "seed", "start"]

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class Quiet:
    """A handler that hears nothing."""

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """Drop."""

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """Nothing."""


def sockets_of(pids: List[int]) -> Set[str]:
    """Inodes of all sockets that these processes hold."""
    found = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(fd))
            except OSError:
                continue
            if match:
                found.add(match[1])
    return found


def exposed(inodes: Set[str]) -> List[str]:
    """Those of these sockets that a network, or any process of the machine, can address."""
    found = []
    for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[9] in inodes:
                found.append(f"{name} {words[1]}")
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        words = line.split(maxsplit=7)
        if words[6] in inodes and len(words) == 8 and words[7].startswith("@"):
            found.append(f"abstract {words[7]}")
    return found


def everyone(directory: str) -> List[int]:
    """The kernel, and all processes of its mesh."""
    return [os.getpid(), *session_processes(directory)]


def test_a_local_start_opens_no_port_and_no_abstract_name(
    start: MeshMaker, nothing_is_left: str
) -> None:
    before = sockets_of([os.getpid()])
    mesh = start(3)
    job = mesh.exec(["sleep", "60"]).get(10)
    mesh.run("print('there')").get(10)
    assert mesh.flush(5).get()
    pids = everyone(nothing_is_left)
    assert len(pids) >= 1 + 1 + 3 + 3, pids
    ours = sockets_of(pids) - before
    assert len(ours) > 3 * 4
    assert exposed(ours) == []
    assert mesh.instance.listen_address == ""
    job.stop().get(10)


def test_the_look_at_ports_and_abstract_names_sees_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(socket.AF_UNIX) as name:
        name.bind(f"\0logmesh-{os.getpid()}")
        found = exposed(sockets_of([os.getpid()]))
        assert f"abstract @logmesh-{os.getpid()}" in found
        assert f"tcp 0100007F:{port.getsockname()[1]:04X}" in found


def test_a_mesh_that_listens_opens_that_port_alone_and_closes_it(nothing_is_left: str) -> None:
    before = sockets_of([os.getpid()])
    options = MeshOptions(listen="tls://127.0.0.1:0")
    mesh = this_host().spawn_procs(2, options=options).get(20)
    try:
        scheme, _, port = mesh.instance.listen_address.rpartition(":")
        assert scheme == "tls://127.0.0.1"
        assert int(port) > 0
        at = [f"tcp 0100007F:{int(port):04X}"]
        assert exposed(sockets_of([os.getpid()]) - before) == at
        assert exposed(sockets_of(session_processes(nothing_is_left))) == []
    finally:
        mesh.stop().get(10)
        mesh.instance.close_loop()
    assert exposed(sockets_of([os.getpid()]) - before) == []


def test_a_fork_of_the_kernel_keeps_no_port_open() -> None:
    script = """
        import os, socket, sys
        from logmesh_ipy import this_host
        from logmesh_ipy.config import MeshOptions
        mesh = this_host().spawn_procs(1, options=MeshOptions(listen="tls://127.0.0.1:0")).get(20)
        port = int(mesh.instance.listen_address.rpartition(":")[2])
        hold, done = os.pipe()
        if os.fork() == 0:
            os.close(done)
            os.read(hold, 1)
            os._exit(0)
        mesh.stop().get(10)
        mesh.instance.close_loop()
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
            print("open")
        except ConnectionRefusedError:
            print("closed")
        os.close(done)
        os.wait()
    """
    assert run_python(script) == "closed"


@pytest.mark.parametrize(
    ("listen", "complaint"),
    [
        ("tcp://127.0.0.1:0", "TCP without TLS.*use tls://127.0.0.1:0.*tcp.insecure://127.0.0.1:0"),
        ("udp://127.0.0.1:0", "not of the form unix:/path, tls://host:port"),
        ("unix:/tmp/x.sock", "must be tls://host:port"),
        ("tls://127.0.0.1", "with a port"),
        ("tls://127.0.0.1:65536", "with a port"),
        ("tls://-oProxyCommand=x:1", "not of the form tls://host:port"),
        ("tls://::1:0", "an IPv6 host in brackets"),
        ("tls://user@host:1", "not of the form tls://host:port"),
        ("tls://host:1/path", "not of the form tls://host:port"),
        ("tls://ho\nst:1", "not of the form tls://host:port"),
        (7, "must be an address like"),
    ],
)
def test_an_address_to_listen_at_that_is_none_is_refused_in_words(
    listen: str, complaint: str
) -> None:
    with pytest.raises(OptionError, match=complaint):
        MeshOptions(listen=listen)


def test_tcp_without_tls_is_served_and_dialled_by_its_own_name_alone() -> None:
    async def main() -> None:
        for wrong in ("tcp://127.0.0.1:0", "tcp://127.0.0.1:1"):
            with pytest.raises(TransportError, match="without TLS"):
                await serve(wrong, lambda connection: Quiet(), b"t" * 32)
            with pytest.raises(TransportError, match="without TLS"):
                await dial(wrong, Quiet(), b"t" * 32)
        with pytest.raises(OptionError, match="without a token"):
            await serve("tcp+insecure://127.0.0.1:0", lambda connection: Quiet())
        with pytest.raises(OptionError, match="without a certificate"):
            await serve("tls://127.0.0.1:0", lambda connection: Quiet(), b"t" * 32)
        with pytest.raises(HandshakeError, match="without the mesh's certificate"):
            await dial("tls://127.0.0.1:1", Quiet(), b"t" * 32)

    run_async(main)


def test_a_port_that_is_taken_is_named_and_nothing_is_left_of_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tls://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TransportError, match=f"cannot serve {address}: Address already in use"):
            this_host().spawn_procs(1, options=MeshOptions(listen=address)).get(20)
    context().actor_instance.close_loop()


def test_without_the_library_for_certificates_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    options = MeshOptions(listen="tls://127.0.0.1:0")
    with pytest.raises(OptionError, match=r"pip install 'logmesh-ipy\[tls\]'"):
        this_host().spawn_procs(1, options=options).get(20)
    context().actor_instance.close_loop()


def test_a_host_elsewhere_needs_an_address_to_dial() -> None:
    instance = Instance(MeshOptions())
    try:
        with pytest.raises(OptionError, match="set listen to tls://"):
            instance.uplink(local=False)
    finally:
        instance.close_loop()
        instance.store.close()
    with pytest.raises(MeshStateError):
        instance.loop.submit(instance.acquire())


# --- modes --------------------------------------------------------------------------------------

LOOK = """
    import json, os, stat, sys
    os.umask(int(sys.argv[1], 8))
    from logmesh_ipy import this_host
    mesh = this_host().spawn_procs(2).get(30)
    job = mesh.exec(["sh", "-c", "echo ran; sleep 60"]).get(10)
    mesh.run("import logmesh_ipy; print('there')").get(10)
    report = mesh.flush(10).get()
    found = {}
    for top, directories, files in os.walk(os.environ["TMPDIR"]):
        for name in directories + files:
            path = os.path.join(top, name)
            found[path] = [stat.filemode(os.lstat(path).st_mode), os.lstat(path).st_uid]
    lines = sum(1 for row in mesh.instance.store.lines())
    job.stop().get(10)
    mesh.stop().get(10)
    print(json.dumps({"found": found, "ok": bool(report), "lines": lines}))
"""
DROP_POWERS = """
    import ctypes, os, sys
    for power in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: root obeys modes like anybody
        ctypes.CDLL(None).prctl(24, power, 0, 0, 0)
    os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""


def run_python(script: str, *arguments: str) -> str:
    """What a script prints."""
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("umask", ["000", "022", "777"])
def test_sockets_and_directories_are_the_users_alone_whatever_the_umask(
    umask: str,
) -> None:
    seen = json.loads(run_python(DROP_POWERS, textwrap.dedent(LOOK), umask))
    assert seen["ok"]
    assert seen["lines"] == 2 + 2
    modes: Dict[str, str] = {path: mode for path, (mode, _) in seen["found"].items()}
    sockets = {path: mode for path, mode in modes.items() if mode[0] == "s"}
    directories = {path: mode for path, mode in modes.items() if mode[0] == "d"}
    assert {os.path.basename(path) for path in sockets} >= {"client.sock", "p0.sock", "p1.sock"}
    assert set(sockets.values()) == {"srw-------"}
    assert set(directories.values()) == {"drwx------"}
    assert "session.lock" in map(os.path.basename, modes)
    others = {path: mode for path, mode in modes.items() if mode[4:] != "------"}
    assert others == {}
    assert {uid for _, uid in seen["found"].values()} == {os.geteuid()}


# --- another user -------------------------------------------------------------------------------

CALL = """
    import os, socket, sys
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        try:
            sock.connect(sys.argv[1])
            heard = sock.recv(100)
        except OSError as error:
            heard = type(error).__name__.encode()
        print(os.getuid(), heard)
"""


@needs_root
def test_another_user_reaches_no_socket_and_is_refused_where_he_does(
    start: MeshMaker, nothing_is_left: str
) -> None:
    mesh = start(1)
    sockets = [path for path in Path(nothing_is_left).rglob("*.sock") if path.is_socket()]
    assert {path.name for path in sockets} == {"client.sock", "p0.sock"}
    for path in sockets:
        assert run_python(CALL, str(path)) == f"{NOBODY} b'PermissionError'"
    assert mesh.instance.refused.count == 0
    for path in (Path(nothing_is_left), *Path(nothing_is_left).rglob("*")):
        path.chmod(0o777)
    try:
        for path in sockets:
            assert run_python(CALL, str(path)) in (
                f"{NOBODY} b''", f"{NOBODY} b'ConnectionResetError'"
            )  # fmt: skip
        (refusal,) = mesh.instance.refused.recent
        assert refusal.reason is Reason.ANOTHER_USER
        assert refusal.peer.endswith(f"of user {NOBODY}")
        assert refusal.read_bytes == 0
        mesh.run("print('on it goes')").get(10)
        assert mesh.flush(5).get()
    finally:
        Path(nothing_is_left).chmod(0o700)
        Path(mesh.instance.directory).chmod(0o700)


SERVE = """
    import os, socket, sys
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(sys.argv[1])
        os.chmod(sys.argv[1], 0o777)
        sock.listen()
        print("ready", flush=True)
        peer, _ = sock.accept()
        peer.settimeout(5)
        try:
            print(peer.recv(100))
        except ConnectionResetError:
            print(b"")
"""


@needs_root
@pytest.mark.parametrize("token", [None, b"t" * 32], ids=["log channel", "uplink"])
def test_a_socket_that_another_user_serves_is_dialled_by_nobody(
    nothing_is_left: str, token: Optional[bytes]
) -> None:
    os.chmod(nothing_is_left, 0o777)
    path = f"{nothing_is_left}/x.sock"
    script = textwrap.dedent(SERVE)
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

        async def main() -> None:
            with pytest.raises(HandshakeError, match=f"a process of user {NOBODY}"):
                await dial(f"unix:{path}", Quiet(), token)

        run_async(main)
        assert server.stdout.readline() == "b''\n"


# --- what others have planted -------------------------------------------------------------------


def plant_link(path: Path) -> None:
    (path.parent / "elsewhere").mkdir(mode=0o700)
    path.symlink_to(path.parent / "elsewhere")


def plant_foreign(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, NOBODY, NOBODY)


def plant_open(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


def plant_file(path: Path) -> None:
    path.write_text("precious")


DIRECTORIES: Dict[str, Tuple[Callable[[Path], None], str]] = {
    "link": (plant_link, "is no directory but a link"),
    "foreign": (plant_foreign, f"belongs to user {NOBODY}"),
    "open": (plant_open, r"is open to others \(mode 0770\)"),
    "file": (plant_file, "is no directory"),
}


@pytest.mark.parametrize("kind", DIRECTORIES)
def test_a_directory_that_is_not_ours_alone_is_never_served_in(
    nothing_is_left: str, kind: str
) -> None:
    plant, complaint = DIRECTORIES[kind]
    if kind == "foreign" and os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    place = Path(nothing_is_left) / "taken"
    plant(place)
    before = {path: path.lstat() for path in Path(nothing_is_left).rglob("*")}

    async def main() -> None:
        with pytest.raises(TransportError, match=f"cannot serve unix:.*taken {complaint}"):
            await serve(f"unix:{place}/x.sock", lambda connection: Quiet())

    run_async(main)
    assert {path: path.lstat() for path in Path(nothing_is_left).rglob("*")} == before


def plant_link_to_file(path: Path) -> None:
    (path.parent / "precious").write_text("precious")
    path.symlink_to(path.parent / "precious")


def plant_foreign_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    os.chown(path, NOBODY, NOBODY)


SQUATTERS: Dict[str, Tuple[Callable[[Path], None], str]] = {
    "file": (plant_file, "is no socket"),
    "link to a file": (plant_link_to_file, "is no socket"),
    "dangling link": (lambda path: path.symlink_to(path.parent / "missing"), "is no socket"),
    "directory": (lambda path: path.mkdir(), "is no socket"),
    "pipe": (os.mkfifo, "is no socket"),
    "foreign socket": (plant_foreign_socket, f"a socket of user {NOBODY}"),
}


@pytest.mark.parametrize("kind", SQUATTERS)
def test_what_stands_in_a_sockets_place_is_refused_and_stays(
    nothing_is_left: str, kind: str
) -> None:
    plant, complaint = SQUATTERS[kind]
    if kind == "foreign socket" and os.geteuid() != 0:
        pytest.skip("only root can give a socket away")
    path = Path(nothing_is_left) / "x.sock"
    plant(path)
    before = {found: found.lstat() for found in Path(nothing_is_left).rglob("*")}

    async def main() -> None:
        with pytest.raises(TransportError, match=f"cannot serve unix:.*there is .*{complaint}"):
            await serve(f"unix:{path}", lambda connection: Quiet())

    run_async(main)
    assert {found: found.lstat() for found in Path(nothing_is_left).rglob("*")} == before


def test_a_socket_begins_with_its_mode_and_has_it_at_no_time_laxer(nothing_is_left: str) -> None:
    """The mode that bind gives it, under a umask that takes nothing, is the final one."""
    path = f"{nothing_is_left}/x.sock"
    real, modes = os.chmod, []

    def look(where: str, mode: int) -> None:
        modes.append(stat.S_IMODE(os.lstat(where).st_mode))
        real(where, mode)

    async def main() -> None:
        server: Optional[Server] = None
        umask = os.umask(0)
        os.chmod = look  # type: ignore[assignment]
        try:
            server = await serve(f"unix:{path}", lambda connection: Quiet())
        finally:
            os.chmod = real
            os.umask(umask)
            if server is not None:
                server.close()

    run_async(main)
    assert modes == [0o600]


@needs_root
def test_what_others_plant_in_the_temporary_directory_is_left_alone_by_a_start(
    start: MeshMaker, nothing_is_left: str
) -> None:
    top = Path(nothing_is_left)
    plant_foreign(top / "logmesh-aaaaaaaa")
    plant_open(top / "logmesh-bbbbbbbb")
    (top / "precious").mkdir()
    (top / "precious" / "file").write_text("precious")
    (top / "logmesh-cccccccc").symlink_to(top / "precious")
    (top / "logmesh-part-dddddddd").symlink_to(top / "precious")
    planted = {path: path.lstat() for path in top.rglob("*")}
    mesh: ProcMesh = start(1)
    try:
        used = Path(mesh.instance.directory)
        assert used not in planted
        assert used.lstat().st_uid == os.geteuid()
        assert stat.S_IMODE(used.lstat().st_mode) == 0o700
        assert Path(socket_path(mesh.instance.address)).parent == used
        assert {path: path.lstat() for path in planted} == planted
    finally:
        for path in top.glob("logmesh-[abc]*"):
            path.unlink() if path.is_symlink() else path.rmdir()
        (top / "logmesh-part-dddddddd").unlink()
    wait_until(lambda: mesh.flush(5).get(), 10)


def test_a_server_tells_who_was_refused_and_why(nothing_is_left: str) -> None:
    async def main() -> None:
        server = await serve(
            f"unix:{nothing_is_left}/x.sock", lambda connection: Quiet(), b"t" * 32
        )
        with pytest.raises(HandshakeError, match="the token does not fit this mesh"):
            await dial(server.address, Quiet(), b"x" * 32)
        _, writer = await asyncio.open_unix_connection(socket_path(server.address))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: server.refused.count == 2)
        writer.close()
        assert str(server.refused) == (
            "2 refused: 1 no valid proof of the token, 1 not the protocol"
        )
        first, second = map(str, server.refused.recent)
        assert first.endswith("no valid proof of the token (the token does not fit this mesh)")
        assert re.search(r"not the protocol \(a frame of [0-9,]+ bytes; 1 to 4,096", second)
        server.close()

    run_async(main)
