"""Keeps personal data out of what is meant to be shared. `reveal` shows it, and the renderer then stamps the file.

Evidence is free-form, so hiding is the default: numbers and short lists of numbers pass, strings pass only under keys
known to hold no personal data, and anything under a key that names records, canaries or reconstructions is hidden.
Ids of records become salted hashes where the run has a salt (`private.py`), so that two findings about one record can
be told to be about one record.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "[hidden]"
LONGEST_LIST = 16
LONGEST_STRING = 300

PERSONAL_KEYS = {
    *("canary", "canaries", "example", "examples", "extracted", "guesses_text", "image", "images", "inputs"),
    *("member", "members", "prompt", "prompts", "reconstruction", "reconstructions", "record", "records"),
    *("row", "rows", "sample", "samples", "secret", "secrets", "sentence", "sentences", "string", "strings"),
    *("text", "texts", "user", "users"),
}
ID_KEYS = {
    *("client", "client_id", "client_ids", "clients", "record", "record_id", "record_ids", "records"),
    *("user", "user_id", "user_ids", "users"),
}
PLAIN_KEYS = {
    *("access", "check", "checked", "code", "entry", "error", "exception", "expected", "family", "file", "kind"),
    *("line", "meaning", "method", "model", "null_class", "refutes", "rule", "sampler", "scope", "selection"),
    *("source", "step", "test", "trainer", "unit", "variant", "version", "where"),
}


def hide(value: Any, *, reveal: bool, free_text: bool = True, salt: str | None = None) -> Any:
    """`value` (JSON) without personal data. `free_text` says that unnamed strings are settings rather than evidence."""
    if reveal:
        return value
    return _hide(value, free_text, salt)


def pseudonym(identity: str, salt: str) -> str:
    """A record id as `#` and 12 hexadecimal digits of its HMAC-SHA256 under the run's secret salt."""
    return "#" + hmac.new(salt.encode(), identity.encode(), hashlib.sha256).hexdigest()[:12]


def _hide(value: Any, free_text: bool, salt: str | None) -> Any:
    if isinstance(value, Mapping):
        return {key: _under(key, child, free_text, salt) for key, child in value.items()}
    if isinstance(value, str):
        return _shorten(value) if free_text else HIDDEN
    if isinstance(value, Sequence):
        return _hide_list(value, free_text, salt)
    return value


def _under(key: str, value: Any, free_text: bool, salt: str | None) -> Any:
    name = key.lower()
    if name in ID_KEYS and salt and (ids := _ids(value)):
        return [pseudonym(identity, salt) for identity in ids]
    # A count under `records` is harmless; names, ids and contents are not.
    if name in PERSONAL_KEYS | ID_KEYS and not isinstance(value, int | float | bool | None):
        return HIDDEN
    return _hide(value, free_text or name in PLAIN_KEYS, salt)


def _ids(value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value
    short = isinstance(values, list) and len(values) <= LONGEST_LIST
    return list(values) if short and all(isinstance(child, str) for child in values) else []


def _hide_list(values: Sequence[Any], free_text: bool, salt: str | None) -> Any:
    nested = any(isinstance(child, list | tuple) for child in values)
    if nested or len(values) > LONGEST_LIST:
        return f"[{len(values)} values hidden]"
    return [_hide(child, free_text, salt) for child in values]


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_STRING else text[: LONGEST_STRING - 1] + "…"
