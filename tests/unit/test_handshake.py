from __future__ import annotations

import dataclasses
from typing import Any, Dict, Tuple

import pytest

from logmesh_ipy.errors import HandshakeError, ProtocolError
from logmesh_ipy.handshake import NONCE_BYTES, ClientHandshake, Role, ServerHandshake
from logmesh_ipy.wire import WIRE_VERSION, Challenge, Hello, Ping, Refused, Welcome

TOKEN = b"t" * 32


def server(token: bytes = TOKEN, nonce: bytes = b"S" * NONCE_BYTES) -> ServerHandshake:
    return ServerHandshake(token, nonce, "1.2.3")


def client(
    token: bytes = TOKEN, nonce: bytes = b"C" * NONCE_BYTES, name: str = "7"
) -> ClientHandshake:
    return ClientHandshake(token, nonce, "1.2.3", Role.FORWARDER, name)


def hello_for(asked: ServerHandshake, caller: ClientHandshake) -> Hello:
    hello = caller.receive(asked.start())
    assert isinstance(hello, Hello)
    return hello


def refusal(answer: object) -> str:
    assert isinstance(answer, Refused)
    return answer.reason


def test_both_ends_with_the_token_prove_themselves() -> None:
    s, c = server(), client()
    hello = hello_for(s, c)
    assert s.peer is None
    assert not c.done
    welcome = s.receive(hello)
    assert isinstance(welcome, Welcome)
    assert s.peer == (Role.FORWARDER, "7")
    assert c.receive(welcome) is None
    assert c.done


def test_the_token_is_in_no_frame() -> None:
    s, c = server(), client()
    hello = hello_for(s, c)
    welcome = s.receive(hello)
    assert TOKEN not in repr((s.start(), hello, welcome)).encode()


def test_a_caller_with_another_token_is_refused() -> None:
    s, c = server(), client(token=b"x" * 32)
    reason = refusal(s.receive(hello_for(s, c)))
    assert "token" in reason
    assert s.peer is None
    with pytest.raises(HandshakeError, match="token"):
        c.receive(Refused(reason=reason))
    assert not c.done


def test_a_server_with_another_token_is_not_believed() -> None:
    s, c = server(), client()
    right = hello_for(s, c)
    other = server(token=b"x" * 32)
    false_friend = other.receive(hello_for(other, client(token=b"x" * 32)))
    assert isinstance(false_friend, Welcome)
    with pytest.raises(HandshakeError, match="token"):
        c.receive(false_friend)
    assert not c.done
    assert right.proof != false_friend.proof


def test_version_skew_is_named_on_both_sides() -> None:
    s, c = server(), client()
    hello = dataclasses.replace(hello_for(s, c), version=WIRE_VERSION + 1, package="9.9.9")
    reason = refusal(s.receive(hello))
    for part in (str(WIRE_VERSION), str(WIRE_VERSION + 1), "9.9.9", "1.2.3"):
        assert part in reason
    challenge = Challenge(version=WIRE_VERSION + 1, package="9.9.9", nonce=b"S" * NONCE_BYTES)
    with pytest.raises(HandshakeError) as caught:
        client().receive(challenge)
    for part in (str(WIRE_VERSION), str(WIRE_VERSION + 1), "9.9.9", "1.2.3"):
        assert part in str(caught.value)


def test_a_recorded_hello_does_not_open_another_connection() -> None:
    first = server(nonce=b"1" * NONCE_BYTES)
    recorded = hello_for(first, client())
    assert isinstance(first.receive(recorded), Welcome)
    second = server(nonce=b"2" * NONCE_BYTES)
    assert "token" in refusal(second.receive(recorded))
    assert second.peer is None


def test_a_recorded_welcome_does_not_satisfy_another_caller() -> None:
    s, c = server(), client()
    recorded = s.receive(hello_for(s, c))
    assert isinstance(recorded, Welcome)
    other = client(nonce=b"D" * NONCE_BYTES)
    hello_for(server(), other)
    with pytest.raises(HandshakeError):
        other.receive(recorded)


def test_a_proof_sent_back_to_its_maker_proves_nothing() -> None:
    s, c = server(), client()
    hello = hello_for(s, c)
    with pytest.raises(HandshakeError):
        c.receive(Welcome(proof=hello.proof))
    # Nor may a stranger let the server answer its own challenge: same nonces, other direction.
    asked = server()
    helper = server()
    nonce = asked.start().nonce
    reflected = dataclasses.replace(hello, nonce=nonce)
    assert isinstance(helper.receive(reflected), Refused)
    assert isinstance(asked.receive(reflected), Refused)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "8"},
        {"role": Role.RUN.value},
        {"nonce": b"X" * NONCE_BYTES},
        {"nonce": b""},
        {"nonce": b"C" * (NONCE_BYTES + 1)},
        {"name": "n" * 257},
        {"proof": b""},
        {"proof": bytes(32)},
        {"role": "forwarder:7", "name": ""},
        {"role": "king"},
    ],
)
def test_a_hello_that_is_changed_on_the_way_is_refused(change: Dict[str, Any]) -> None:
    s, c = server(), client()
    hello = dataclasses.replace(hello_for(s, c), **change)
    assert isinstance(s.receive(hello), Refused)
    assert s.peer is None


def test_an_unknown_role_is_refused_even_with_the_token() -> None:
    class Odd:
        value = "king"

    s = server()
    c = ClientHandshake(TOKEN, b"C" * NONCE_BYTES, "1.2.3", Odd(), "7")  # type: ignore[arg-type]
    assert "role" in refusal(s.receive(hello_for(s, c)))
    assert s.peer is None


def test_a_server_hears_one_hello_only() -> None:
    s, c = server(), client()
    hello = hello_for(s, c)
    assert isinstance(s.receive(dataclasses.replace(hello, proof=bytes(32))), Refused)
    assert isinstance(s.receive(hello), Refused)
    assert s.peer is None
    again = server()
    hello = hello_for(again, client())
    assert isinstance(again.receive(hello), Welcome)
    assert isinstance(again.receive(hello), Refused)
    assert again.peer == (Role.FORWARDER, "7")


@pytest.mark.parametrize("message", [Ping(n=1), Welcome(proof=b""), Refused(reason="")])
def test_a_server_takes_nothing_before_the_hello(message: Ping | Welcome | Refused) -> None:
    s = server()
    assert isinstance(s.receive(message), Refused)
    assert s.peer is None


def steps() -> Tuple[ServerHandshake, ClientHandshake, Welcome]:
    s, c = server(), client()
    welcome = s.receive(hello_for(s, c))
    assert isinstance(welcome, Welcome)
    return s, c, welcome


def test_a_caller_takes_nothing_out_of_order() -> None:
    s, c, welcome = steps()
    with pytest.raises(ProtocolError):
        client().receive(welcome)
    with pytest.raises(ProtocolError):
        client().receive(Ping(n=1))
    with pytest.raises(ProtocolError):
        c.receive(s.start())
    assert not c.done
    c.receive(welcome)
    with pytest.raises(ProtocolError):
        c.receive(welcome)
    with pytest.raises(ProtocolError):
        c.receive(s.start())


@pytest.mark.parametrize("nonce", [b"", b"S" * (NONCE_BYTES - 1), b"S" * (NONCE_BYTES + 1)])
def test_a_caller_answers_no_challenge_of_another_size(nonce: bytes) -> None:
    with pytest.raises(HandshakeError):
        client().receive(Challenge(version=WIRE_VERSION, package="1", nonce=nonce))
