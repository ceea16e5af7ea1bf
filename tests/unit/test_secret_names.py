"""Which variables are taken for secrets, and what of their values is looked for."""

from __future__ import annotations

import base64
import json
from typing import Dict, Set
from urllib.parse import quote, quote_plus

import pytest

from logmesh_ipy.secret_names import looks_secret, secrets_in

SECRET = [
    "WANDB_API_KEY", "OPENAI_API_KEY_2", "HF_TOKEN", "hf_token", "GITHUB_TOKEN", "GITHUBTOKEN",
    "GITHUB_PAT", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_KEY",
    "AZURE_CLIENT_SECRET", "PGPASSWORD", "MYSQL_PWD", "DB_PASS", "SMTP_PASSWORD", "REDISCLI_AUTH",
    "SSH_PRIVATE_KEY", "DJANGO_SECRET_KEY", "SECRET_KEY_BASE", "GPG_PASSPHRASE",
    "GOOGLE_CREDENTIALS", "JUPYTERHUB_API_TOKEN", "SLURM_JWT", "APIKEY", "_TOKEN_", "TOKEN",
    "KAGGLE_KEY", "WANDB_KEY", "OPENAI_KEY", "GOOGLE_API_KEYS", "HF_TOKENS", "API_KEY_PROD",
    "DB_PASS_PROD", "GITHUB_PAT_V2", "API_KEY_V2", "ENCRYPTION_KEY_BASE64", "SSH_KEY_CONTENT",
    "AZURE_STORAGE_CONNECTION_STRING", "DB_PASSWORDS",
]  # fmt: skip
HARMLESS = [
    "TOKENIZERS_PARALLELISM", "KEYBOARD", "AUTHOR", "GIT_AUTHOR_NAME", "SSH_AUTH_SOCK", "GPG_KEY",
    "PUBLIC_KEY", "PRIMARY_KEY", "AWS_ACCESS_KEY_ID", "PWD", "OLDPWD", "PATH", "PAT", "PATTERN",
    "COMPASS", "PASSENGER", "XAUTHORITY", "HF_TOKEN_PATH", "VAULT_TOKEN_FILE", "SECRET_NAME",
    "TOKEN_URL", "PASSWORD_MIN_LENGTH", "GIT_ASKPASS", "LS_COLORS", "KEYTIMEOUT", "SECRETARY",
    "TOKYO", "DBUS_SESSION_BUS_ADDRESS", "MONKEY", "CUDA_VISIBLE_DEVICES", "KEY", "AUTH", "PASS",
    "_", "X__", "SSH_PUBLIC_KEY", "PRIMARY_KEYS", "SSH_KEY_PATH", "API_KEY_HEADER", "PASS_COUNT",
    "PAT_NAMES", "PWD_2", "KEY_V2", "V2", "CONNECTION_TIMEOUT", "STRING", "DB_PASS_FILE",
    "AWS_KEY_PAIR", "SSH_KEY_FINGERPRINT", "KEYS", "TOKENS_PER_SECOND", "GPG_KEY_BASE64",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_sounds_like_one_is_none(name: str) -> None:
    assert not looks_secret(name)


def found(environ: Dict[str, str]) -> Set[bytes]:
    return secrets_in(environ, lambda path: path == "/run/secrets/token")


@pytest.mark.parametrize(
    "value",
    [
        "", "short", "1234567", "12345678901", "2.5e-10000", "-1_000_000", "true", "disabled",
        "required", "********", "xxxxxxxxxxxx", "/run/secrets/token", "somebody9", "abababababab",
    ],
)  # fmt: skip
def test_a_plain_value_is_no_secret(value: str) -> None:
    assert found({"HF_TOKEN": value, "USER": "somebody9"}) == set()


@pytest.mark.parametrize(
    "value",
    ["hf_12345", "/run/secrets/other", "correct horse", "abcdefghijkl", "Disabled", "1234abcd"],
)
def test_any_other_value_is_one(value: str) -> None:
    assert value.encode() in found({"HF_TOKEN": value, "USER": "somebody9"})


def test_a_value_is_found_as_it_stands_in_code_urls_and_base64() -> None:
    value = "p\u00e4ss'w\\rd \"&/+?"
    forms = found({"DB_PASSWORD": value})
    assert forms >= {
        value.encode(),
        repr(value)[1:-1].encode(),
        json.dumps(value)[1:-1].encode(),
        quote(value, safe="").encode(),
        quote_plus(value).encode(),
    }
    for encoded in (base64.b64encode, base64.urlsafe_b64encode):
        assert any(form in encoded(value.encode()) for form in forms)


def test_of_a_key_in_many_lines_each_is_looked_for_but_not_what_frames_it() -> None:
    lines = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj", "c2hvcnQ="]
    pem = "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----", ""])
    forms = found({"TLS_PRIVATE_KEY": pem})
    assert forms >= {line.encode() for line in lines}
    assert not any(b"-----" in form or b"\n" in form for form in forms)


def test_a_value_that_is_no_utf8_is_looked_for_as_it_is() -> None:
    assert b"\xff\xfe0123456" in found({"API_KEY": "\udcff\udcfe0123456"})


def test_a_very_long_value_is_looked_for_in_pieces() -> None:
    value = "".join(f"{n:05d}-" for n in range(5000))
    forms = found({"GOOGLE_CREDENTIALS": value})
    assert max(map(len, forms)) <= 8 << 10
    assert value[: 8 << 10].encode() in forms
    assert any(value.encode().endswith(form) for form in forms)
