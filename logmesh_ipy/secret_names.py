"""Which environment variables hold secrets, and how their values may look in a log. Sans-IO.

A variable is taken for a secret by the words of its name (``WANDB_API_KEY``, ``PGPASSWORD``,
``GITHUB_PAT``), unless its last word says that the value only leads to one (``TOKEN_FILE``,
``SECRET_NAME``) or its value is plainly none: shorter than 8 bytes, a number, a lowercase word of
less than 12 letters, the same few characters over and over, a path that exists, a user's or
host's name. What is redacted wrongly corrupts logs, so in doubt a short and plain value is none.

Of a value are redacted: each of its lines of 8 bytes or more (a PEM key is printed line by line;
its BEGIN and END are no secret), and each of these as Python's ``repr`` and JSON write it, as it
stands in a URL, and in base64 (of the value encoded by itself, as secrets are stored, not as a
part of something longer).
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import re
from typing import Callable, Iterator, Mapping, Set
from urllib.parse import quote, quote_plus

__all__ = ["looks_secret", "secrets_in"]

MIN_BYTES = 8
MAX_BYTES = 8 << 10
"""Longer lines are redacted in pieces of so many bytes."""

_SECRET_WORDS = frozenset(("CREDENTIAL", "CREDENTIALS"))
_SECRET_ENDINGS = (
    "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "PASSCODE", "APIKEY", "JWT",
)  # fmt: skip
_PLURAL_ENDINGS = tuple(f"{ending}S" for ending in _SECRET_ENDINGS)
_SHORT_WORDS = frozenset(("PASS", "PAT", "PWD"))
"""Of a secret when a word comes before: PWD is a directory, DB_PWD is none."""
_KEYS = frozenset((
    "ACCESS", "ACCOUNT", "ANTHROPIC", "API", "APP", "AUTH", "AWS", "AZURE", "CLIENT", "COHERE",
    "COMET", "DATADOG", "DD", "DEPLOY", "ENCRYPTION", "GEMINI", "GROQ", "HF", "HMAC",
    "HUGGINGFACE", "KAGGLE", "LANGCHAIN", "LANGSMITH", "LICENSE", "MASTER", "MISTRAL", "NEPTUNE",
    "OPENAI", "PINECONE", "PRIVATE", "REPLICATE", "SECRET", "SENDGRID", "SERVICE", "SESSION",
    "SIGNING", "SSH", "STORAGE", "STRIPE", "SUBSCRIPTION", "WANDB", "WEBHOOK",
))  # fmt: skip
"""KEY is a secret behind one of these: a PUBLIC_KEY, GPG_KEY or PRIMARY_KEY is none."""
_PAIRS = frozenset({("CONNECTION", "STRING")}.union(
    (word, key) for word in _KEYS for key in ("KEY", "KEYS")
))  # fmt: skip
_LEADS_TO_ONE = frozenset((
    "ALGO", "ALGORITHM", "AUDIENCE", "BACKEND", "COUNT", "DIR", "DIRECTORY", "DISABLED",
    "ENABLED", "ENDPOINT", "EXPIRY", "FILE", "FILENAME", "FINGERPRINT", "FORMAT", "HEADER",
    "HELPER", "HOST", "ID", "ISSUER", "LENGTH", "LIMIT", "MODE", "NAME", "PAIR", "PATH", "PORT",
    "PREFIX", "PROVIDER", "PUB", "PUBLIC", "REGION", "ROTATION", "SCOPE", "SCOPES", "SERVICE",
    "SIZE", "SOCK", "STORE", "TIMEOUT", "TTL", "TYPE", "URI", "URL", "USER", "USERNAME",
    "VERSION",
))  # fmt: skip
_NAMES_OF_PEOPLE_AND_PLACES = frozenset((
    "HOME", "HOSTNAME", "HOST", "LOGNAME", "NAME", "OLDPWD", "PWD", "SHELL", "TERM", "USER",
    "USERNAME",
))  # fmt: skip
_ORDINAL = re.compile(r"V?[0-9]*\Z")
_NUMBER = re.compile(r"[-+]?[0-9][0-9_,.]*([eE][-+]?[0-9]+)?\Z")
_PLAIN_WORD = re.compile(r"[a-z]{1,11}\Z")
_FEW_CHARACTERS = 4


@functools.lru_cache(maxsize=1024)
def looks_secret(name: str) -> bool:
    """Whether a variable of that name is taken for a secret."""
    words = name.upper().strip("_").split("_")
    while len(words) > 1 and _ORDINAL.match(words[-1]):
        words.pop()  # API_KEY_2, API_KEY_V2
    last = words[-1]
    if last in _LEADS_TO_ONE:
        return False
    if len(words) > 1 and (last == "AUTH" or not _SHORT_WORDS.isdisjoint(words[1:])):
        return True  # DB_PASS, DB_PASS_PROD
    if last.endswith(_PLURAL_ENDINGS) or not _PAIRS.isdisjoint(itertools.pairwise(words)):
        return True  # HF_TOKENS, ENCRYPTION_KEY_BASE64
    return any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDINGS) for word in words)


def secrets_in(environ: Mapping[str, str], exists: Callable[[str], bool]) -> Set[bytes]:
    """What to look for in a log, of the secret variables: no newlines, 8 bytes or more each.

    ``exists(path)`` tells whether there is such a file.
    """
    found: Set[bytes] = set()
    names = {environ[n] for n in environ if n.split("_")[-1] in _NAMES_OF_PEOPLE_AND_PLACES}
    for name, value in environ.items():
        if not looks_secret(name) or value in names or _is_path(value.strip(), exists):
            continue
        for line in map(str.strip, value.splitlines()):
            if not _is_harmless(line):
                for form in _forms(line):
                    found.update(_pieces(form))
    return found


def _is_harmless(value: str) -> bool:
    return bool(
        len(_bytes(value)) < MIN_BYTES
        or _NUMBER.match(value)
        or _PLAIN_WORD.match(value)
        or len(set(value)) < _FEW_CHARACTERS
        or value.startswith("-----")
    )


def _is_path(value: str, exists: Callable[[str], bool]) -> bool:
    return value.startswith(("/", "./", "../")) and "\0" not in value and exists(value)


def _forms(value: str) -> Iterator[bytes]:
    raw = _bytes(value)
    yield raw
    yield _bytes(repr(value)[1:-1])
    yield json.dumps(value)[1:-1].encode()
    yield quote(raw, safe="").encode()
    yield quote_plus(raw).encode()
    # Without the last group: what it looks like depends on what follows.
    whole = raw[: len(raw) // 3 * 3]
    yield base64.b64encode(whole)
    yield base64.urlsafe_b64encode(whole)


def _pieces(form: bytes) -> Iterator[bytes]:
    for start in range(0, len(form), MAX_BYTES):
        piece = form[start : start + MAX_BYTES]
        if len(piece) >= MIN_BYTES:
            yield piece


def _bytes(value: str) -> bytes:
    """As the system holds it."""
    return value.encode(errors="surrogateescape")
