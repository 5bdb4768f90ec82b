"""`main TASK REQUEST.json ARRAYS.npz REPLY.json`: call the peers on the arrays and write what they answered."""

from __future__ import annotations

import importlib.metadata
import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

PACKAGES = (
    "tensorflow-empirical-privacy",
    "jax-privacy",
    "privacyguard-platform",
    "privacy-estimates",
    "adversarial-robustness-toolbox",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "torch",
)


def main(arguments: list[str]) -> int:
    """Reads the request and the arrays, writes the reply; an exception of one call becomes that row's `error`."""
    task, request_path, arrays_path, reply_path = arguments
    with open(request_path, encoding="utf-8") as file:
        request = json.load(file)
    with np.load(arrays_path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    rows = list(bound_rows(request, arrays) if task == "bounds" else attack_rows(request, arrays))
    reply = {"rows": rows, "versions": {name: version(name) for name in PACKAGES}}
    with open(reply_path, "w", encoding="utf-8") as file:
        json.dump(reply, file, allow_nan=False)
    return 0


def bound_rows(request: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Iterable[dict[str, Any]]:
    """One row a call and fixture: `values` of the first `calls[fixture][name]` trials, seconds a call."""
    from .bounds import peer_calls

    known = peer_calls(request["design"])
    for fixture, calls in request["calls"].items():
        scores, inside = arrays[f"{fixture}_scores"], arrays[f"{fixture}_inside"]
        for name, trials in calls.items():
            row: dict[str, Any] = {"call": name, "fixture": fixture, "values": [], "seconds": 0.0, "error": ""}
            progress(f"{fixture}: {name}, {trials} trials")
            try:
                row.update(timed(known[name], scores[:trials], inside[:trials]))
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {error}"
            yield row


def timed(
    call: Callable[[NDArray[Any], NDArray[Any]], float], scores: NDArray[Any], inside: NDArray[Any]
) -> dict[str, Any]:
    """The values of `call` on each trial (scores of members, scores of non-members) and its mean seconds."""
    values, seconds = [], 0.0
    for score, member in zip(scores, inside, strict=True):
        members, others = score[member], score[~member]
        started = time.perf_counter()
        value = call(members, others)
        seconds += time.perf_counter() - started
        values.append(number(value))
    return {"values": values, "seconds": seconds / len(values)}


def attack_rows(request: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Iterable[dict[str, Any]]:
    """One row an attack and target."""
    from .attacks import Signals, peer_attacks

    known = peer_attacks()
    for target in range(request["targets"]):
        signals = Signals.of(arrays, target, request["targets"])
        progress(f"target {target + 1} of {request['targets']}")
        for name in request["attacks"]:
            row: dict[str, Any] = {"attack": name, "target": target, "scores": [], "judged": [], "seconds": 0.0}
            row["error"] = ""
            try:
                scored = known[name](signals)
                row["scores"] = [number(s) for s in scored.scores]
                row["judged"] = [int(i) for i in scored.judged]
                row["seconds"] = scored.seconds
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {error}"
            yield row


def progress(text: str) -> None:
    """A line that LeakGauge shows; whatever else comes out of this process it drops."""
    print(f"progress: {text}", file=sys.stderr, flush=True)


def number(value: Any) -> float | str:
    """A float as JSON has it; "inf", "-inf" and "nan" as words."""
    value = float(value)
    return value if math.isfinite(value) else str(value)


def version(package: str) -> str:
    """The installed version, or "absent"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
