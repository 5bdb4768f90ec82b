"""A model behind a URL: JSON in, class probabilities or labels out."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audit.errors import ConfigError, PrerequisiteError

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that may be gone a moment later."""
LONGEST_WAIT = 60.0
"""Seconds waited at most before one further try, whatever the server asks for."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """POSTs `{"features": [...]}` (records, ...) to `url` and reads `{"probabilities": [...]}` (records, classes), or
    with `labels_only` `{"labels": [...]}` (records,).

    Lost connections and passing errors (429, 5xx) are tried `retries` times more, after 0.5, 1, 2, ... seconds or what
    `Retry-After` asks for. `headers` go with every request; `$NAME` in their values is read from the environment.
    """

    url: str
    labels_only: bool = False
    timeout: float = 60.0
    retries: int = 4
    headers: Mapping[str, str] = field(default_factory=dict)
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"target.url must start with http:// or https://, got {self.url!r}")
        if self.retries < 0 or not self.timeout > 0:
            raise ConfigError(f"target: retries {self.retries} must be >= 0 and timeout {self.timeout} > 0 seconds")

    @classmethod
    def of(cls, url: str, labels_only: bool, options: Mapping[str, Any]) -> Endpoint:
        """From the keys of `[target]`."""
        own = {k: options[k] for k in ("timeout", "retries", "headers") if k in options}
        return cls(url, labels_only, **own)

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """The answers to `features`. Raises `PrerequisiteError` when the server does not answer as described."""
        key = "labels" if self.labels_only else "probabilities"
        body = json.dumps({"features": features.tolist()}).encode()
        text = self._posted(body)
        try:
            return np.asarray(json.loads(text)[key], np.float64)
        except (ValueError, KeyError, TypeError) as error:
            shown = "[0, ...]" if self.labels_only else "[[...]]"
            raise PrerequisiteError(
                f'target.url {self.url}: no answer of the form {{"{key}": {shown}}} ({type(error).__name__}: {error}); '
                f"it began {text[:80]!r}"
            ) from None

    def _posted(self, body: bytes) -> str:
        headers = {"Content-Type": "application/json", **{k: _from_environment(v) for k, v in self.headers.items()}}
        for attempt in range(self.retries + 1):
            try:
                request = urllib.request.Request(self.url, body, headers)
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    return str(response.read().decode("utf-8", "replace"))
            except OSError as error:
                status = getattr(error, "code", None)
                if attempt == self.retries or (status is not None and status not in PASSING):
                    tries = f"after {attempt + 1} tries" if attempt else "at the first try"
                    raise PrerequisiteError(
                        f"target.url {self.url}: {_reason(error)}, {tries}; answers so far are kept, so run the same "
                        "command again once the server is back"
                    ) from None
                self.sleep(_pause(error, attempt))
        raise AssertionError  # the last attempt returns or raises


def _pause(error: OSError, attempt: int) -> float:
    """Seconds before the next try: what the server asks for, else doubling from half a second."""
    asked = error.headers.get("Retry-After") if isinstance(error, urllib.error.HTTPError) else None
    wanted = float(asked) if asked and re.fullmatch(r"\d+(\.\d+)?", asked) else 0.5 * 2.0**attempt
    return min(wanted, LONGEST_WAIT)


def _reason(error: OSError) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    return f"no connection ({getattr(error, 'reason', error)})"


def _from_environment(value: str) -> str:
    """`$NAME` replaced; an unset name is an error. The value itself is shown nowhere."""
    unset = [name for name in re.findall(r"\$\{?(\w+)\}?", value) if name not in os.environ]
    if unset:
        raise PrerequisiteError(f"target.headers: the environment variable {unset[0]} is not set")
    return os.path.expandvars(value)
