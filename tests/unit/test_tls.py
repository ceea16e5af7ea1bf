from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509

from logmesh_ipy.certificate import make_certificate
from logmesh_ipy.errors import HandshakeError, ProtocolError
from logmesh_ipy.tls import TlsStream, client_context, server_context

CERTIFICATE = make_certificate()


def pair(known: str = CERTIFICATE.public) -> tuple[TlsStream, TlsStream]:
    server = TlsStream(server_context(CERTIFICATE), server_side=True)
    client = TlsStream(client_context(known), server_side=False)
    server.start()
    client.start()
    return server, client


def shake(server: TlsStream, client: TlsStream) -> int:
    """The handshake; how many bytes the client sends for it."""
    sent = 0
    for _ in range(4):
        output = client.output()
        sent += len(output)
        assert server.receive(output) == b""
        assert client.receive(server.output()) == b""
    return sent


def test_what_goes_in_at_one_end_comes_out_at_the_other_however_it_is_cut() -> None:
    server, client = pair()
    assert not server.ready
    sent = shake(server, client)
    assert server.ready
    assert client.ready
    assert sent < 3000  # well within what is read of a stranger
    for data in (b"x", b"line\n" * 100_000, bytes(1 << 20)):
        for speaker, hearer in ((server, client), (client, server)):
            records = speaker.encrypt(data)
            assert data[:100] not in records or len(data) == 1
            heard = b"".join(
                hearer.receive(records[at : at + 4999]) for at in range(0, len(records), 4999)
            )
            assert heard == data


def test_another_certificate_than_the_one_that_is_known_is_not_taken() -> None:
    server, client = pair(make_certificate().public)
    server.receive(client.output())
    with pytest.raises(HandshakeError, match="another certificate"):
        client.receive(server.output())
    assert not client.ready
    with pytest.raises(ProtocolError, match="TLS"):
        server.receive(client.output())


def test_a_certificate_that_is_none_is_refused() -> None:
    for broken in ("", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", "é"):
        with pytest.raises(HandshakeError, match="cannot be read"):
            client_context(broken)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", bytes(100)])
def test_what_is_not_tls_is_refused(said: bytes) -> None:
    server, _ = pair()
    with pytest.raises(ProtocolError, match="TLS"):
        server.receive(said)


def test_a_record_that_was_changed_is_refused() -> None:
    server, client = pair()
    shake(server, client)
    records = bytearray(client.encrypt(b"line\n"))
    records[-1] ^= 1
    with pytest.raises(ProtocolError, match="TLS"):
        server.receive(bytes(records))


def test_the_key_is_in_no_text_and_no_date_has_a_say() -> None:
    assert b"PRIVATE KEY" in CERTIFICATE.private
    assert "PRIVATE" not in repr(CERTIFICATE)
    assert "PRIVATE" not in CERTIFICATE.public
    made = x509.load_pem_x509_certificate(CERTIFICATE.public.encode())
    assert made.not_valid_before_utc.year == 1950
    assert made.not_valid_after_utc == dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.timezone.utc)
    assert make_certificate().public != CERTIFICATE.public
