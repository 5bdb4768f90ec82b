"""What a run's own policy says about being underpowered."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from ..types import Verdict
from .extract import Document


def fails_on(audit: Document) -> list[str]:
    """A sentence when the audit file's policy fails on `underpowered` and findings are; else nothing.

    The text of the audit file is in the run's provenance. Overrides given with `--set` are not in it.
    """
    policy = _config(audit.get("provenance", {}).get("config") or "").get("policy")
    wanted = policy.get("fail_on", []) if isinstance(policy, Mapping) else []
    count = sum(f["verdict"] == Verdict.UNDERPOWERED for f in audit["findings"])
    if Verdict.UNDERPOWERED not in wanted or not count:
        return []
    return [f"{count} of {len(audit['findings'])} findings are underpowered, which the audit file's policy fails on"]


def _config(text: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        import yaml

        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError:
            return {}
        return found if isinstance(found, Mapping) else {}
