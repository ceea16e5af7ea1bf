"""Ways from the kernel to browsers: a comm of our own, and a widget's comm.

A :class:`Port` sends numbered messages to all front ends of this kernel, and tells what they ask.
Two kinds: the raw comm is taken by our JupyterLab extension; the hub is a widget model, for front
ends that know widgets only (VS Code, Colab, a JupyterLab without the extension).

What goes out has no parent message. ipykernel 7.4 hands what the browser answers on a comm to the
subshell of the comm's last outgoing message: with a cell for its parent, that would be the shell
which the cell blocks. So nothing is sent through the comm object itself, and its routing is the
browser's choice again.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional

__all__ = ["COMM_TARGET", "Port", "RawPort", "comm_id_of", "hears_at_once"]

COMM_TARGET = "logmesh_ipy"

Heard = Callable[["Port", Mapping[str, Any]], None]


def comm_id_of(session: str) -> str:
    """The id of a session's raw comm: what is saved in a notebook's outputs finds it again."""
    return f"logmesh-{session}"


def hears_at_once(kernel: Any) -> bool:
    """Whether the kernel handles what a browser sends while a cell runs (it has subshells)."""
    return bool(getattr(kernel, "_supports_kernel_subshells", False))


class Port:
    """One comm of a kernel. ``on_heard(port, data)`` is called in whatever thread hears it."""

    def __init__(self, kernel: Any, comm: Any, on_heard: Heard) -> None:
        self.greeted = False
        """Whether a browser has said hello on it."""
        self.closed = False
        self._kernel = kernel
        self._comm = comm
        self._on_heard = on_heard
        comm._reply_subshell_for = lambda data, default: default  # noqa: SLF001
        comm.on_close(self._on_close)

    def send(self, content: Dict[str, Any], payload: bytes) -> None:
        """One message to all browsers; from any thread."""
        if self.closed:
            return
        self._kernel.session.send(
            self._kernel.iopub_socket,
            "comm_msg",
            {"comm_id": self._comm.comm_id, "data": self.wrap(content)},
            parent={},
            ident=self._comm.topic,
            buffers=[payload] if payload else None,
        )

    def wrap(self, content: Dict[str, Any]) -> Dict[str, Any]:
        """The comm's data that carries the message."""
        return content

    def hear(self, data: Any) -> None:
        """A browser has sent ``data``."""
        if isinstance(data, dict):
            self._on_heard(self, data)

    def close(self) -> None:
        """Tell the browsers that no more comes."""
        if not self.closed:
            self.closed = True
            self._comm.close()

    def _on_close(self, message: Any) -> None:
        self.closed = True


class RawPort(Port):
    """The comm that our JupyterLab extension takes. Opened by the kernel, in a cell's context."""

    def __init__(self, kernel: Any, session: str, on_heard: Heard) -> None:
        from comm import create_comm

        greeting = {"logmesh": 1, "session": session}
        comm = create_comm(target_name=COMM_TARGET, comm_id=comm_id_of(session), data=greeting)
        super().__init__(kernel, comm, on_heard)
        comm.on_msg(self._on_message)

    def _on_message(self, message: Mapping[str, Any]) -> None:
        self.hear(message["content"].get("data"))


def open_ports(ports: List[Port]) -> List[Port]:
    """The ports to send to: those that a browser has greeted; before that, all."""
    living = [port for port in ports if not port.closed]
    return [port for port in living if port.greeted] or living


def any_greeted(ports: List[Port]) -> Optional[Port]:
    """A port on which a browser listens for certain."""
    return next((port for port in ports if port.greeted and not port.closed), None)
