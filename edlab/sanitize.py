"""Text that is safe to record and send: without secrets, valid UTF-8, and of limited length."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
MAX_CHARACTERS = 50_000  # per text: people read the end of a log
_MIN_SECRET = 6  # characters: a shorter secret would also be replaced if it occurs by chance

# "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "hf_token"; not "tokens" or "monkey"
_NAME = (
    r"[\w.-]{0,60}(?:password|passwd|passphrase|secret|credentials?|connection_string"
    r"|(?<![a-z])(?:token|api_?key|access_?key|private_?key))(?![a-z])[\w.-]{0,60}"
)
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
_ASSIGNED = re.compile(rf"({_NAME}[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s&,;}}'\"]+)", re.IGNORECASE)
_USER_IN_ADDRESS = re.compile(r"(\w://)[^/\s]*@")  # user and password
_PASSWORD_IN_ADDRESS = re.compile(r"(\w://)[^\s/:@]*:[^\s]+@")  # a password with slashes, which SQLAlchemy accepts
_BEARER = re.compile(r"(\b(?:Bearer|Basic)\s+)[\w.~+/=-]{8,}")


def sanitized(value: Any) -> Any:
    """The value with every text in it, including keys, made safe to record."""
    return _sanitized(value, _secrets())


def _sanitized(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        return _text(value, secrets)
    if isinstance(value, Mapping):
        return {
            _sanitized(key, secrets): HIDDEN if _is_secret(key, item) else _sanitized(item, secrets)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_sanitized(item, secrets) for item in value]
    return value


def text(value: str) -> str:
    """The text without passwords and tokens, also those of this process's environment; invalid UTF-8 becomes "?"."""
    return _text(value, _secrets())


def _text(value: str, secrets: list[str]) -> str:
    if len(value) > MAX_CHARACTERS:
        half = MAX_CHARACTERS // 2
        value = f"{value[:half]}\n... {len(value) - 2 * half:,} characters omitted ...\n{value[-half:]}"
    value = value.encode("utf-8", "replace").decode()
    for pattern in (_USER_IN_ADDRESS, _PASSWORD_IN_ADDRESS):
        value = pattern.sub(rf"\1{HIDDEN}@", value)
    for pattern in (_ASSIGNED, _BEARER):
        value = pattern.sub(rf"\1{HIDDEN}", value)
    for secret in secrets:
        value = value.replace(secret, HIDDEN)
    return value


def _is_secret(name: object, value: object) -> bool:
    single = isinstance(value, str | int | float) and not isinstance(value, bool)
    return single and isinstance(name, str) and bool(_SECRET_NAME.fullmatch(name))


def _secrets() -> list[str]:
    return [
        content for name, content in os.environ.items() if _SECRET_NAME.fullmatch(name) and len(content) >= _MIN_SECRET
    ]
