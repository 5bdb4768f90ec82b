"""`leakgauge attack`: one attack on a file of signals, scores out, metrics beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .config import assign
from .document import write_scores
from .metrics import membership_metrics
from .plugs import build
from .registry import ATTACKS
from .seeds import Seeds
from .signals_file import read_signals


def attack_file(name: str, signals: Path, out: Path | None, overrides: list[str], *, seed: int) -> dict[str, Any]:
    """Run `name` with `overrides` on an npz of signals; writes record, score, inside to `out` if given."""
    parameters: dict[str, Any] = {}
    for override in overrides:
        assign(parameters, override)
    evidence, inside = read_signals(signals)
    attack = build(ATTACKS, name, with_available_shadows(name, parameters, len(evidence.shadows)), where=name)
    scores = attack.score(evidence, seeds=Seeds(seed).at("attack", name))
    if out is not None:
        write_scores(out, scores, inside)
    return {
        "attack": name,
        "records": len(scores.records),
        "shadows": len(evidence.shadows),
        "out": None if out is None else str(out),
        "metrics": membership_metrics(scores.values, inside).to_json(),
    }


def with_available_shadows(name: str, parameters: dict[str, Any], available: int) -> dict[str, Any]:
    """The parameters with the file's number of shadows where the attack takes one and none was given."""
    import inspect

    plug = ATTACKS.load(name)
    if inspect.isclass(plug):
        for key in ("shadows", "references"):
            if key in inspect.signature(plug).parameters and key not in parameters:
                return {**parameters, key: available}
    return parameters
