from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logmesh_ipy.addresses import (
    NetAddress,
    UnixAddress,
    check_listen,
    parse_address,
    socket_path,
)
from logmesh_ipy.errors import OptionError, TransportError

RIGHT = {
    "unix:/run/x.sock": UnixAddress("/run/x.sock"),
    "tls://host:1": NetAddress("host", 1, tls=True),
    "tls://node-7.example.org:65535": NetAddress("node-7.example.org", 65535, tls=True),
    "tls://10.0.0.1:0": NetAddress("10.0.0.1", 0, tls=True),
    "tls://[::1]:9": NetAddress("::1", 9, tls=True),
    "tcp+insecure://host:1": NetAddress("host", 1, tls=False),
}
WRONG = [
    "tls://a..b:1",
    f"tls://{'a' * 64}.b:1",
    "", "host", "host:1", "unix:", "unix:x.sock", "unix:/a\0b", f"unix:/{'x' * 107}",
    "tls:", "tls://", "tls://:1", "tls://host", "tls://host:", "tls://host:x", "tls://host:65536",
    "tls://host:-1", "tls://-host:1", "tls://ho st:1", "tls://host:1\n", "tls://a@host:1",
    "tls://host:1/", "tls://[::1:1", "tls://::1:1", "tls://[nine]:1", "tls://[1.2.3.4]:1",
    "tls://h\u00f6st:1", f"tls://{'h' * 254}:1", "tls://[::1]", "http://host:1", "TLS://host:1",
    "ssh:host", "tls://a..b:1", f"tls://{'a' * 64}.b:1",
]  # fmt: skip


@pytest.mark.parametrize(("text", "address"), RIGHT.items())
def test_an_address_is_read_and_written_back(text: str, address: UnixAddress | NetAddress) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_address_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(TransportError, match=r"is not of the form|longer than the 107 bytes"):
        parse_address(text)
    if text.strip() not in ("", "tls://host:1"):  # what stands around it is no matter
        with pytest.raises(OptionError, match="listen"):
            check_listen(text)


def test_tcp_without_tls_says_why_not_and_what_instead() -> None:
    for refuse in (parse_address, check_listen):
        with pytest.raises((TransportError, OptionError)) as caught:
            refuse("tcp://host:1")
        for part in (
            "without TLS",
            "reads what procs print",
            "tls://host:1",
            "tcp+insecure://host:1",
        ):
            assert part in str(caught.value)


def test_what_to_listen_at_is_a_network_address_or_nothing() -> None:
    assert check_listen("") == check_listen(None) == check_listen("none") == ""
    assert check_listen(" tls://0.0.0.0:0 ") == "tls://0.0.0.0:0"
    with pytest.raises(OptionError, match="use a Unix socket without it"):
        check_listen("unix:/run/x.sock")
    with pytest.raises(OptionError, match=r"tls://0\.0\.0\.0:0"):
        check_listen(8080)


def test_the_path_of_an_address_that_has_none_is_refused() -> None:
    assert socket_path("unix:/run/x.sock") == "/run/x.sock"
    with pytest.raises(TransportError, match=r"of the form unix:/path"):
        socket_path("tls://host:1")


@given(
    st.text(max_size=40), st.sampled_from(["", "tls://", "tcp+insecure://", "tls://[", "unix:/"])
)
def test_any_text_is_an_address_or_refused(text: str, scheme: str) -> None:
    try:
        address = parse_address(scheme + text)
    except TransportError:
        return
    assert parse_address(str(address)) == address
