"""Names from outside, checked before anything is made of them. No IO.

A name that a user gives is right or refused: the error says what is wrong with it and what is
allowed. A name that a host tells of itself is made right (:func:`clean_hostname`): whatever it is,
its lines count. No error repeats more than the beginning of what it refuses, and that inert.
"""

from __future__ import annotations

import re
from typing import Mapping, Optional, Sequence

from .errors import OptionError

__all__ = [
    "MAX_HOSTNAME",
    "check_command",
    "check_file_name",
    "check_host",
    "check_hosts",
    "check_path",
    "clean_hostname",
    "quoted",
]

MAX_HOSTNAME = 253
_MAX_USER = 64
_MAX_PATH_BYTES = 4095
_MAX_FILE_NAME = 100
_MAX_QUOTED = 80
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9._-]{1,15})?\]\Z")
_ALLOWED_HOSTS = (
    "allowed are letters, digits, '.', '-' and '_', not '-' at the beginning, as in node7, "
    "user@10.0.0.7, node7.example.org:2222 or [fe80::1]:22"
)


def quoted(value: object) -> str:
    """``repr``, and of a long one the beginning."""
    text = repr(value)
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}... ({len(text):,} long)"


def check_host(host: object) -> str:
    """``[user@]host[:port]``; the host is a name, an IPv4 address or an IPv6 one in brackets.

    What passes can stand as a word of its own on the command line of ssh. Raises OptionError.
    """
    if not isinstance(host, str) or not host:
        raise OptionError(f"a host is {quoted(host)}; it must be a name: {_ALLOWED_HOSTS}")
    user, at, place = host.rpartition("@")
    if at and (len(user) > _MAX_USER or not _WORD.match(user)):
        raise OptionError(f"host {quoted(host)}: the user's name is wrong; {_ALLOWED_HOSTS}")
    name, colon, port = place.rpartition(":") if not place.endswith("]") else (place, "", "")
    if not colon:
        name = place
    elif not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        what = "an IPv6 address stands in brackets" if ":" in name else "the port is 1 to 65535"
        raise OptionError(f"host {quoted(host)}: {what}; {_ALLOWED_HOSTS}")
    if not (_IPV6.match(name) or (len(name) <= MAX_HOSTNAME and _WORD.match(name))):
        raise OptionError(f"host {quoted(host)}: {_ALLOWED_HOSTS}")
    return host


def check_hosts(hosts: object) -> None:
    """Several hosts. Raises OptionError."""
    if not isinstance(hosts, (tuple, list)):
        raise OptionError(f"hosts is {quoted(hosts)}; it must be several, as in ['a', 'b']")
    for host in hosts:
        check_host(host)


def check_file_name(what: str, name: object) -> str:
    """The beginning of a file's name: it leads to no other directory. Raises OptionError."""
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _MAX_FILE_NAME:
        problem = f"1 to {_MAX_FILE_NAME} characters that can be seen"
    elif "/" in name or name.startswith("."):
        problem = "without '/' and with no '.' in front"
    else:
        return name
    raise OptionError(
        f"{what} is {quoted(name)}; it must be the beginning of a file's name, {problem}, such as "
        "'logmesh'"
    )


def check_path(what: str, path: object) -> str:
    """A path that can be shown and used: no control or other invisible character, not too long."""
    if not isinstance(path, str) or not path.isprintable():
        raise OptionError(
            f"{what} is {quoted(path)}; it must be a path without control characters and others "
            "that cannot be seen"
        )
    size = len(path.encode())
    if size > _MAX_PATH_BYTES:
        raise OptionError(
            f"{what} is a path of {size:,} bytes; the system allows {_MAX_PATH_BYTES:,}"
        )
    return path


def check_command(
    argv: Sequence[str], environ: Optional[Mapping[str, str]], cwd: Optional[str]
) -> None:
    """What a process is started with, before anybody is asked to start it.

    Raises TypeError for what is no text, OptionError for text that no system can pass on.
    """
    if isinstance(argv, str) or not argv:
        raise TypeError("argv must be a list: the command and its arguments")
    for number, word in enumerate(argv):
        _check_text(f"argument {number} of the command", word)
    if not argv[0]:
        raise OptionError("the command is empty; it must be a program's name or path")
    if cwd is not None:
        _check_text("the working directory", cwd)
    for name, value in (environ or {}).items():
        _check_text("a variable's name", name)
        if not name or "=" in name:
            raise OptionError(
                f"the environment has a variable {quoted(name)}; a name is not empty and has no '='"
            )
        _check_text(f"the variable {quoted(name)}", value)


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{what} is {quoted(text)}; it must be a str")
    if "\0" in text:
        raise OptionError(f"{what} is {quoted(text)}; it must not hold a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise OptionError(
            f"{what} is {quoted(text)}; it must be text that UTF-8 can encode"
        ) from None


def clean_hostname(told: str) -> str:
    r"""A name that a machine says it has, as one that can be shown anywhere.

    Characters that no host's name has become ``_``, a longer one is cut.

    >>> clean_hostname("node7.example.org"), clean_hostname("<b>\x1b[2J")
    ('node7.example.org', '_b___2J')
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", told[:MAX_HOSTNAME])
