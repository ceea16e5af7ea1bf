"""Addresses as text: where a connection goes. No IO.

    unix:/path                  a socket in the file system of this machine
    tls://host:port             TCP, under TLS with a pinned certificate
    tcp+insecure://host:port    TCP as it is, for a network that only you use

A plain ``tcp://`` is refused by name, so that nobody goes without TLS by accident. An IPv6 host
stands in brackets. Port 0 asks for any free one where an address is served.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Optional, Union

from .errors import OptionError, TransportError

__all__ = ["Address", "NetAddress", "UnixAddress", "check_listen", "parse_address", "socket_path"]

_MAX_PATH_BYTES = 107
_MAX_PORT = 65535
_MAX_LABEL = 63
_TLS = "tls"
_INSECURE = "tcp+insecure"
_HOST_AND_PORT = re.compile(
    r"//(?:\[(?P<ip>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9._-]{0,252})):(?P<port>[0-9]{1,5})\Z"
)
_FORMS = f"unix:/path, {_TLS}://host:port or {_INSECURE}://host:port"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class NetAddress:
    """A TCP port; ``host`` is a name or an IP address, without brackets."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{_TLS if self.tls else _INSECURE}://{host}:{self.port}"


Address = Union[UnixAddress, NetAddress]


def parse_address(address: str) -> Address:
    """Raises TransportError that says what is wrong and which forms there are."""
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        return UnixAddress(_checked_path(address, rest))
    if scheme == "tcp":
        raise TransportError(
            f"the address {address!r} is TCP without TLS: whoever is on the way reads what procs "
            f"print and can speak for them; use {_TLS}:{rest}, or, on a network that only you "
            f"use, {_INSECURE}:{rest}"
        )
    if scheme not in (_TLS, _INSECURE):
        raise TransportError(f"the address {address!r} is not of the form {_FORMS}")
    match = _HOST_AND_PORT.match(rest)
    host = match and (_checked_name(match["host"]) or _checked_ip(match["ip"]))
    if match is None or not host or int(match["port"]) > _MAX_PORT:
        raise TransportError(
            f"the address {address!r} is not of the form {scheme}://host:port, with a port of 0 "
            f"to {_MAX_PORT} and an IPv6 host in brackets"
        )
    return NetAddress(host, int(match["port"]), tls=scheme == _TLS)


def socket_path(address: str) -> str:
    """The path of a Unix address. Raises TransportError for any other."""
    parsed = parse_address(address)
    if not isinstance(parsed, UnixAddress):
        raise TransportError(f"the address {address!r} is not of the form unix:/path")
    return parsed.path


def check_listen(listen: object) -> str:
    """The option ``listen``: a network address, or nothing. Raises OptionError."""
    if listen is None or (isinstance(listen, str) and listen.strip().lower() in ("", "none")):
        return ""
    if not isinstance(listen, str):
        raise OptionError(f"listen is {listen!r}; it must be an address like {_TLS}://0.0.0.0:0")
    try:
        parsed = parse_address(listen.strip())
    except TransportError as error:
        raise OptionError(f"listen: {error}") from None
    if isinstance(parsed, UnixAddress):
        raise OptionError(
            f"listen is {listen!r}; procs of this machine use a Unix socket without it, so it must "
            f"be {_TLS}://host:port or {_INSECURE}://host:port"
        )
    return str(parsed)


def _checked_path(address: str, path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise TransportError(f"the address {address!r} is not of the form unix:/path")
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise TransportError(
            f"the socket path {path!r} is longer than the {_MAX_PATH_BYTES} bytes that the system "
            "allows; set TMPDIR to a shorter directory"
        )
    return path


def _checked_name(text: Optional[str]) -> str:
    labels = (text or "").removesuffix(".").split(".")
    return text if text and all(0 < len(label) <= _MAX_LABEL for label in labels) else ""


def _checked_ip(text: Optional[str]) -> str:
    try:
        return str(ipaddress.IPv6Address(text or ""))
    except ValueError:
        return ""
