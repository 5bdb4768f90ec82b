"""Keeps personal data out of what is meant to be shared. `reveal` shows it, and the renderer then stamps the file.

Evidence is free-form, so hiding is the default: numbers and short lists of numbers pass, strings pass only under keys
known to hold no personal data, and anything under a key that names records, canaries or reconstructions is hidden.
"""

from __future__ import annotations

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
PLAIN_KEYS = {
    *("access", "check", "checked", "code", "entry", "error", "exception", "expected", "family", "file", "kind"),
    *("line", "meaning", "method", "model", "null_class", "refutes", "rule", "sampler", "scope", "selection"),
    *("source", "step", "test", "trainer", "unit", "variant", "version", "where"),
}


def hide(value: Any, *, reveal: bool, free_text: bool = True) -> Any:
    """`value` (JSON) without personal data. `free_text` says that unnamed strings are settings rather than evidence."""
    if reveal:
        return value
    return _hide(value, free_text)


def _hide(value: Any, free_text: bool) -> Any:
    if isinstance(value, Mapping):
        return {key: _under(key, child, free_text) for key, child in value.items()}
    if isinstance(value, str):
        return _shorten(value) if free_text else HIDDEN
    if isinstance(value, Sequence):
        return _hide_list(value, free_text)
    return value


def _under(key: str, value: Any, free_text: bool) -> Any:
    # A count under `records` is harmless; names, ids and contents are not.
    if key.lower() in PERSONAL_KEYS and not isinstance(value, int | float | bool | None):
        return HIDDEN
    return _hide(value, free_text or key.lower() in PLAIN_KEYS)


def _hide_list(values: Sequence[Any], free_text: bool) -> Any:
    nested = any(isinstance(child, list | tuple) for child in values)
    if nested or len(values) > LONGEST_LIST:
        return f"[{len(values)} values hidden]"
    return [_hide(child, free_text) for child in values]


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_STRING else text[: LONGEST_STRING - 1] + "…"
