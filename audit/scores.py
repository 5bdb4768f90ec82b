"""Auditing scores from anywhere: a file or two arrays, a design, perhaps a claim. No torch, no models (DESIGN 5, 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .design import HOLDOUT, CoinTrials, RunTrials, check_scores
from .errors import ConfigError
from .metrics import membership_metrics, worst_slice
from .registry import BOUNDS
from .seeds import Seeds
from .trial import default_guesses
from .types import Adjacency, BoolArray, Bound, Claim, Selection, Unit
from .verdict import Circumstances, Judgement, judge

Design = Literal["coin", "runs", "unknown"]


@dataclass(frozen=True, slots=True)
class ScoreFile:
    """Columns of a score file: `scores` float64 (records,), `inside` bool, ids, and an optional group per record."""

    scores: NDArray[np.float64]
    inside: BoolArray
    records: tuple[str, ...]
    groups: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ScoreAudit:
    """Metrics, the bounds that the design allows (the first one decides), and the verdict."""

    metrics: Mapping[str, Any]
    bounds: tuple[Bound, ...]
    judged: Bound | None
    judgement: Judgement
    claim: Claim | None
    design: Design

    def to_json(self) -> dict[str, Any]:
        """One document, with the keys of a finding (DESIGN 8)."""
        judged = None
        if self.judged is not None:
            judged = {
                "confidence": self.judged.confidence,
                "epsilon": self.judged.epsilon,
                "ceiling": self.judged.ceiling,
                "alpha": self.judged.alpha,
            }
        return {
            "design": self.design,
            "metrics": dict(self.metrics),
            "claim": None if self.claim is None else {"epsilon": self.claim.epsilon, "delta": self.claim.delta},
            "bound": self.bounds[0].to_json() if self.bounds else None,
            "bounds": [b.to_json() for b in self.bounds],
            "judged": judged,
            "verdict": str(self.judgement.verdict),
            "reason": self.judgement.reason,
        }


def audit_scores(
    scores: NDArray[np.floating[Any]],
    inside: NDArray[Any],
    *,
    design: Design = "unknown",
    claim: Claim | None = None,
    delta: float = 1e-5,
    guesses: int | None = None,
    threshold: float | None = None,
    unit: Unit = Unit.RECORD,
    adjacency: Adjacency = Adjacency.ADD_REMOVE,
    confidence: float = 0.95,
    violation_confidence: float = 0.999,
    records: tuple[str, ...] | None = None,
    groups: tuple[str, ...] | None = None,
    seeds: Seeds | None = None,
) -> ScoreAudit:
    """Audit `scores` (records,), higher for more likely inside, against the truth `inside` bool (records,).

    `design` says how membership was decided: `coin` (many records of one model, each by its own fair coin), `runs`
    (one independent model a score) or `unknown` (metrics only, no bound). `guesses` or `threshold` must be fixed
    before looking at the truth; without a threshold, `runs` chooses one on a held-out half drawn by `seeds`.
    """
    values = np.asarray(scores, dtype=np.float64)
    inside = as_bool(np.asarray(inside))
    check_scores(values, inside)
    for name, value in (("confidence", confidence), ("violation confidence", violation_confidence)):
        if not 0 < value < 1:
            raise ConfigError(f"{name} must lie strictly between 0 and 1, got {value}")
    if claim is not None:
        delta = claim.delta
    metrics = membership_metrics(values, inside, confidence=confidence).to_json()
    if groups is not None:
        metrics["slices"] = worst_slice(values, inside, groups, confidence=confidence).to_json()
    ids = records or tuple(map(str, range(len(values))))
    alphas = (confidence, violation_confidence)
    if design == "coin":
        bounds, judged = _coin(CoinTrials(values, inside, ids, unit, adjacency), guesses, delta, alphas)
    elif design == "runs":
        trials = RunTrials(values, inside, unit, adjacency)
        bounds, judged = _runs(trials, threshold, delta, alphas, seeds or Seeds(0).at("score", "holdout"))
    else:
        bounds, judged = (), None
    judgement = judge(claim, judged, Circumstances(adjacency=adjacency, unit=unit))
    return ScoreAudit(metrics, bounds, judged, judgement, claim, design)


def _coin(
    trials: CoinTrials, guesses: int | None, delta: float, confidences: tuple[float, float]
) -> tuple[tuple[Bound, ...], Bound]:
    counts = trials.count(guesses or default_guesses(len(trials.scores)))
    method = BOUNDS.load("one-run")()
    reported, judged = (method.certify(counts, delta=delta, confidence=c) for c in confidences)
    return (reported,), judged


def _runs(
    trials: RunTrials, threshold: float | None, delta: float, confidences: tuple[float, float], seeds: Seeds
) -> tuple[tuple[Bound, ...], Bound]:
    selection = Selection()
    if threshold is None:
        chooser, trials = trials.holdout(seeds=seeds)
        threshold, selection = best_threshold(chooser, delta, 1 - confidences[0]), HOLDOUT
    counts = trials.count(threshold)
    names = ["clopper-pearson", "bayesian", *(["gdp"] if delta > 0 else [])]
    bounds = tuple(
        BOUNDS.load(n)().certify(counts, delta=delta, confidence=confidences[0], selection=selection) for n in names
    )
    judged = BOUNDS.load("clopper-pearson")().certify(
        counts, delta=delta, confidence=confidences[1], selection=selection
    )
    return bounds, judged


def best_threshold(trials: RunTrials, delta: float, alpha: float, *, most: int = 200) -> float:
    """The threshold that certifies most on these trials; the result must then be tested on others."""
    method = BOUNDS.load("clopper-pearson")()
    values = np.unique(trials.scores)
    if len(values) > most:
        values = np.unique(np.quantile(trials.scores, np.linspace(0, 1, most), method="nearest"))
    certified = [method.epsilon_lower(trials.count(float(v)), delta=delta, alpha=alpha) for v in values]
    best = float(max(certified))
    if best <= 0:
        return float(np.median(trials.scores))
    return float(values[int(np.argmax(certified))])


def as_bool(values: NDArray[Any]) -> BoolArray:
    """Booleans, or numbers that are all 0 or 1, or `true`/`false` strings; anything else is a `ConfigError`."""
    if values.dtype == np.bool_:
        return values
    if values.dtype.kind in "iuf":
        odd = values[(values != 0) & (values != 1)]
        if len(odd):
            raise ConfigError(f"inside: expected 0/1 or true/false, got {odd[0]}")
        return values.astype(bool)
    text = np.char.lower(values.astype(str))
    odd = values[~np.isin(text, ["true", "false", "0", "1"])]
    if len(odd):
        raise ConfigError(f"inside: expected 0/1 or true/false, got {odd[0]!r}")
    return np.isin(text, ["true", "1"])


def read_scores(path: Path) -> ScoreFile:
    """A csv, parquet or npz file with columns `score`, `inside` and optionally `record`, `group`."""
    columns = _columns(path)
    for name in ("score", "inside"):
        if name not in columns:
            raise ConfigError(f"{path}: no column {name!r}; found {', '.join(columns)}")
    if columns["score"].dtype.kind not in "iuf":
        raise ConfigError(f"{path}: column 'score' must be numbers, found {columns['score'].dtype}")
    scores = columns["score"].astype(np.float64)
    ids = columns.get("record")
    group = columns.get("group")
    return ScoreFile(
        scores,
        as_bool(columns["inside"]),
        tuple(map(str, range(len(scores)) if ids is None else ids.tolist())),
        None if group is None else tuple(map(str, group.tolist())),
    )


def _columns(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    wanted = ("score", "inside", "record", "group")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                return {k: stored[k] for k in wanted if k in stored}
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            present = pq.read_schema(path).names
            table = pq.read_table(path, columns=[c for c in wanted if c in present])
            return {c: table[c].to_numpy(zero_copy_only=False) for c in table.column_names}
        if path.suffix in {".csv", ".tsv"}:
            import pandas as pd

            frame = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
            return {str(c): frame[c].to_numpy() for c in frame.columns if c in wanted}
    except (ValueError, OSError, KeyError) as error:
        raise ConfigError(
            f"{path}: cannot be read as {path.suffix[1:]}: {' '.join(str(error).split())[:200]}"
        ) from None
    raise ConfigError(f"{path}: unknown format {path.suffix!r}; use csv, tsv, parquet or npz")


def claim_from_options(epsilon: float | None, delta: float | None, unit: Unit, adjacency: Adjacency) -> Claim | None:
    """The claim given on a command line; epsilon without delta is refused, since it promises nothing by itself."""
    if epsilon is None:
        return None
    if delta is None:
        raise ConfigError(f"--epsilon {epsilon:g} needs --delta: an epsilon without its delta is not a claim")
    if not math.isfinite(epsilon):
        raise ConfigError(f"--epsilon must be finite, got {epsilon}")
    return Claim(epsilon, delta, unit, adjacency)
