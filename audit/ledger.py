"""One alpha ledger: how the error probability of an audit is shared out, and a record of every attempt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError


def share_out(requested: Mapping[str, float | None]) -> dict[str, float]:
    """Alpha share of each attack on one claim: as requested in the file; what is left is split equally over the rest.

    Bounds at error probability alpha * share hold together with probability 1 - alpha (union bound). Raises
    `ConfigError` when the requests exceed 1 or leave nothing for an attack without one.
    """
    spent = sum(share for share in requested.values() if share is not None)
    open_names = [name for name, share in requested.items() if share is None]
    if spent > 1 + 1e-12:
        raise ConfigError(f"alpha_share: the shares sum to {spent:g}, which is more than 1")
    if open_names and spent >= 1 - 1e-12:
        raise ConfigError(f"alpha_share: the other attacks leave nothing for {open_names[0]!r}; give each a share")
    rest = (1.0 - spent) / len(open_names) if open_names else 0.0
    return {name: rest if share is None else share for name, share in requested.items()}


def record_attempt(path: Path, attempt: Mapping[str, Any]) -> None:
    """Append one attempt, unless an identical configuration is already recorded (repeating it shows nothing new)."""
    digests = {a["config_digest"] for a in read_attempts(path)}
    if attempt["config_digest"] in digests:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(attempt, sort_keys=True) + "\n")


def read_attempts(path: Path) -> Sequence[dict[str, Any]]:
    """Every attempt recorded, oldest first. A line cut short by a kill is skipped."""
    if not path.is_file():
        return []
    attempts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            attempts.append(json.loads(line))
        except ValueError:
            continue
    return attempts
