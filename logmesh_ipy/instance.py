"""The driver's side of a process: one loop, one LogClientActor, one store, one socket.

``context().actor_instance`` is what the control surface calls *instance*. It opens with the
first mesh and closes with the last: then no thread, socket or directory of it is left. The
store stays readable after that.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import secrets
import socket
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Protocol

from .addresses import NetAddress, parse_address
from .certificate import make_certificate
from .channel import Connection, Handler, Server, let_go_in_forked_children, serve
from .config import MeshOptions
from .crashed_sessions import sweep
from .errors import MeshStateError, OptionError
from .gate import Refusals
from .handshake import Role, Token
from .heartbeat import ACCEPTED_PATIENCE_SEC, DIALLED_PATIENCE_SEC, Heartbeat
from .log_client_actor import LogClientActor
from .loop import MeshLoop
from .names import clean_hostname
from .procs import raise_file_limit
from .runtime_directory import RuntimeDirectory, sweep_stale
from .store import LogStore
from .store_keeper import StoreKeeper
from .store_places import SessionPlace
from .template_table import TemplateTable
from .tls import Certificate

if TYPE_CHECKING:
    from .mesh import ProcMesh

__all__ = ["Context", "Instance", "context"]

_END_SEC = 1.0
_ALL_INTERFACES = ("0.0.0.0", "::")  # noqa: S104 (to be recognized)


class Shown(Protocol):
    """What shows an instance's lines: a view's driver."""

    def sync_then(self, then: Callable[[], object]) -> None:
        """Show all that is in the store now, then call ``then()``."""

    def close(self) -> None:
        """A last round, then no more."""


HandlerFactory = Callable[[Connection], Handler]


class Instance:
    """Everything of one client. Made on any thread; ``_``-coroutines run on its loop."""

    def __init__(
        self, options: MeshOptions, loop: Optional[asyncio.AbstractEventLoop] = None
    ) -> None:
        self.options = options
        self.loop = MeshLoop(loop)
        self.token = Token(secrets.token_bytes(32))
        self._directory: Optional[RuntimeDirectory] = None
        self.hostname = clean_hostname(socket.gethostname())
        self.store = LogStore(
            memory_bytes=options.store_memory_bytes,
            max_line_bytes=options.max_line_bytes,
            session=SessionPlace(options.store_directory) if options.keep_sessions else None,
            templates=TemplateTable(
                options.similarity_threshold, exact=options.grouping == "exact"
            ),
        )
        self._actor: Optional[LogClientActor] = None
        self._keeper: Optional[StoreKeeper] = None
        self._server: Optional[Server] = None
        self._listener: Optional[Server] = None
        self._certificate: Optional[Certificate] = None
        self.refused = Refusals()
        """Who did not get in, and why."""
        self._awaited: Dict[str, HandlerFactory] = {}
        self._holders = 0
        self._next_proc = 0
        self._next_host = 0
        self.closed = False
        self.view: Optional[Shown] = None
        """There is one view of an instance; the first client makes a plain one where none is."""
        self.meshes: List[ProcMesh] = []
        """The meshes that are up, oldest first."""
        self._ending: Optional[asyncio.Task[None]] = None
        self._pid = os.getpid()

    @property
    def started(self) -> bool:
        """Whether there is a client actor."""
        return self._actor is not None

    @property
    def forked(self) -> bool:
        """Whether this is a forked child's copy: the loop and the procs are its parent's."""
        return os.getpid() != self._pid

    @property
    def actor(self) -> LogClientActor:
        """The client actor; there once a mesh has been started."""
        if self._actor is None:
            raise MeshStateError("no mesh was started yet: call this_host().spawn_procs(n) first")
        return self._actor

    @property
    def directory(self) -> str:
        """Where its sockets are; empty before the first mesh."""
        return "" if self._directory is None else self._directory.path

    @property
    def address(self) -> str:
        """Where bootstraps and procs on this machine reach the client."""
        return f"unix:{self.directory}/client.sock"

    @property
    def listen_address(self) -> str:
        """Where hosts elsewhere reach the client, with the true port; empty where they cannot."""
        return "" if self._listener is None else self._listener.address

    @property
    def patience_sec(self) -> Optional[float]:
        """How long peers may hear nothing of the client; on a loop that cells block, for ever."""
        return DIALLED_PATIENCE_SEC if self.loop.own_thread else None

    async def acquire(self) -> None:
        """One more mesh; the first one makes the directory and opens the socket."""
        if self.closed:
            raise MeshStateError("this instance is closed; context() gives a new one")
        self._holders += 1
        if self._actor is None:
            try:
                raise_file_limit()
                sweep_stale()
                if self.options.keep_sessions:
                    # What is wrong there, the store tells.
                    with contextlib.suppress(OptionError, OSError):
                        sweep(
                            self.options.store_directory,
                            most=self.options.keep_sessions,
                            most_bytes=self.options.keep_sessions_bytes,
                            most_days=self.options.keep_sessions_days,
                        )
                self._directory = RuntimeDirectory()
                # Its bootstraps remove it when this process ends; if they died, nobody else does.
                atexit.register(self._remove_directory)
                self._actor = LogClientActor(self.store)
                self._keeper = StoreKeeper(self.store, self._actor)
                self._server = await serve(
                    self.address, self._accept, self.token, refused=self.refused
                )
                if self.options.listen:
                    await self._listen(self.options.listen)
            except BaseException:
                await self.release()
                raise

    async def _listen(self, address: str) -> None:
        where = parse_address(address)
        if isinstance(where, NetAddress) and where.tls:
            self._certificate = make_certificate()
        self._listener = await serve(
            address, self._accept, self.token, certificate=self._certificate, refused=self.refused
        )

    def uplink(self, *, local: bool) -> Dict[str, Any]:
        """What a bootstrap must know to reach the client: address, token, certificate if any.

        Raises OptionError for a host elsewhere where the client does not listen.
        """
        if local:
            return {"uplink": self.address, "token": self.token}
        if self._listener is None:
            raise OptionError(
                "hosts elsewhere need an address to dial: set listen to tls://0.0.0.0:0, or to "
                "another tls://host:port, and start again"
            )
        public = None if self._certificate is None else self._certificate.public
        address = _with_host(self._listener.address, socket.gethostname())
        return {"uplink": address, "token": self.token, "certificate": public}

    async def saved(self) -> None:
        """What the store has outlives a crash of this process now, where the disk allows it."""
        if self._keeper is not None:
            await self._keeper.saved()

    async def release(self) -> None:
        """One mesh less; the last one closes everything but the store."""
        self._holders -= 1
        if self._holders > 0 or self.closed:
            return
        self.closed = True
        if self._keeper is not None:
            self._keeper.end()
        for server in (self._server, self._listener):
            if server is not None:
                server.close()
        if self.view is not None:
            self.view.close()
        atexit.unregister(self._remove_directory)
        self._remove_directory()
        if self.loop.own_thread:
            self._ending = asyncio.ensure_future(self._end_loop())
        else:
            self.loop.close()

    def _remove_directory(self) -> None:
        if self._directory is not None and not self.forked:
            self._directory.remove()

    def close_unused(self) -> None:
        """Close one that no mesh holds: a start has failed before there was anything to end."""
        if self._holders == 0 and not self.closed:
            self.closed = True
            self.loop.close()

    async def _end_loop(self) -> None:
        """End the loop's own thread when what still runs on it has told its result."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=_END_SEC)
        for _ in range(3):  # Results reach their waiting threads in callbacks of the tasks.
            await asyncio.sleep(0)
        self.loop.close()

    def close_loop(self) -> None:
        """Without a mesh: wait for the end of the loop's thread. Not from that thread."""
        if not self._holders:
            self.closed = True
            self.loop.close()

    def new_procs(self, count: int) -> range:
        """Fresh ids of sources."""
        first = self._next_proc
        self._next_proc += count
        return range(first, first + count)

    def new_host_name(self) -> str:
        """Fresh name of a bootstrap."""
        self._next_host += 1
        return f"h{self._next_host}"

    def when_connected(self, role: Role, name: str, make: HandlerFactory) -> None:
        """``make(connection)`` gives the handler when that peer has connected and proved itself."""
        self._awaited[f"{role.value}:{name}"] = make

    def forget_peer(self, role: Role, name: str) -> None:
        """That peer is not awaited any more."""
        self._awaited.pop(f"{role.value}:{name}", None)

    def _accept(self, connection: Connection) -> Handler:
        assert connection.peer is not None
        Heartbeat(connection, None if connection.is_local else ACCEPTED_PATIENCE_SEC)
        role, name = connection.peer
        if role is Role.FORWARDER:
            return self.actor
        make = self._awaited.get(f"{role.value}:{name}")
        if make is None:
            connection.abort()
            return self.actor
        return make(connection)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self._holders} meshes"
        return f"<Instance pid {os.getpid()}: {state}>"


def _with_host(address: str, hostname: str) -> str:
    """The address with this host name, where it stands for all interfaces of this machine."""
    where = parse_address(address)
    if isinstance(where, NetAddress) and where.host in _ALL_INTERFACES:
        return str(replace(where, host=hostname))
    return address


@dataclass(frozen=True, slots=True)
class Context:
    """Where the caller is; ``actor_instance`` is the client's side of this process."""

    actor_instance: Instance


class _Current:
    """This process's instance."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.instance: Optional[Instance] = None


_current = _Current()


def context(
    options: Optional[MeshOptions] = None, loop: Optional[asyncio.AbstractEventLoop] = None
) -> Context:
    """This process's context; made at the first call, and anew after it was closed.

    ``options`` and ``loop`` hold for a new one only.
    """
    with _current.lock:
        if _current.instance is None or _current.instance.closed:
            _current.instance = Instance(options or MeshOptions(), loop)
        return Context(_current.instance)


def open_instance() -> Optional[Instance]:
    """The instance if there is one that is not closed."""
    instance = _current.instance
    return None if instance is None or instance.closed else instance


# A forked child has neither the loop's thread nor a right to its sockets; the lock may be held
# by a thread that it does not have.
let_go_in_forked_children()
os.register_at_fork(after_in_child=_current.__init__)  # type: ignore[misc]
