"""The certificate of a session: made by the kernel, pinned by the hosts. Uses ``cryptography``.

Its dates say nothing (from 1950 to the end of all calendars, RFC 5280 4.1.2.5), so that a clock
that is wrong on some host keeps nobody out: it lives as long as the session, in memory only.
"""

from __future__ import annotations

import datetime as dt

from .errors import OptionError
from .tls import Certificate

__all__ = ["make_certificate"]

_NAME = "logmesh_ipy session"


def make_certificate() -> Certificate:
    """A new key (ECDSA P-256) and its certificate. Raises OptionError without the library."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise OptionError(
            f"listen with tls:// needs the package cryptography, which cannot be loaded ({error}): "
            "pip install 'logmesh-ipy[tls]'"
        ) from None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(1950, 1, 1, tzinfo=dt.timezone.utc))
        .not_valid_after(dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.timezone.utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
