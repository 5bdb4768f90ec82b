"""How risky each record is, over many models: each shadow plays the target, and hits are counted record by record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..errors import ConfigError
from ..types import BoolArray
from .intervals import Interval, binomial_interval, check_confidence, clopper_pearson
from .roc import SplitScores, operating_point

TOP_SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Groups of the table: the riskiest 1 %, 5 %, ... of the records."""


@dataclass(frozen=True, slots=True)
class RecordRisk:
    """Per record, over the models that it was a member of.

    `hits` of `plays`: how often its score passed the model's threshold for `fpr`; `rate` = hits / plays with
    Clopper-Pearson limits `low`, `high`, each record's own. `rank`: mean share of the model's non-members that it
    outscored (0.5 is chance), with Student's limits `rank_low`, `rank_high`. NaN where a record was in no model.
    Models of complementary pairs are taken as independent draws of the training set.
    """

    fpr: float
    confidence: float
    records: tuple[str, ...]
    plays: NDArray[np.int64]
    hits: NDArray[np.int64]
    rate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    rank: NDArray[np.float64]
    rank_low: NDArray[np.float64]
    rank_high: NDArray[np.float64]
    certain: int
    table: tuple[tuple[float, Interval], ...]

    def columns(self) -> dict[str, Any]:
        """Columns of the parquet artifact, riskiest record first; it names records, so it is not for sharing."""
        order = np.lexsort((-np.nan_to_num(self.rank, nan=-1.0), -np.nan_to_num(self.rate, nan=-1.0)))
        numbers = {
            name: getattr(self, name)[order]
            for name in ("plays", "hits", "rate", "low", "high", "rank", "rank_low", "rank_high")
        }
        return {"record": [self.records[i] for i in order], **numbers}

    def measures(self) -> dict[str, dict[str, Any]]:
        """Measures of a finding: mean true-positive rate of the riskiest shares, and how many records are beyond doubt.

        Shareable: no record is named.
        """
        out: dict[str, dict[str, Any]] = {
            f"record_risk_top_{_percent(share)}_percent": {
                **interval.to_json(),
                "n": math.ceil(share * len(self.records)),
                "baseline": {"value": self.fpr, "low": self.fpr, "high": self.fpr, "name": "false-positive rate"},
                "unit": None,
                "better": "lower",
                "reason": None,
            }
            for share, interval in self.table
        }
        certain = self.certain / len(self.records)
        out["records_certainly_exposed"] = {
            "value": certain,
            "low": None,
            "high": None,
            "n": len(self.records),
            "baseline": None,
            "unit": None,
            "better": "lower",
            "reason": None,
        }
        return out


def record_risk(
    scores: NDArray[np.float64],
    inside: BoolArray,
    records: tuple[str, ...],
    *,
    fpr: float = 0.01,
    confidence: float = 0.95,
) -> RecordRisk:
    """Risk of every record from `scores` and the truth `inside`, both (models, records): each model is a target.

    Each model's threshold is set by its own non-members; a score tied with it is no hit.
    The table's groups are chosen on one half of the models and measured on the other, and the reverse: picking and
    measuring on the same models would flatter the attack. Its limits are the wider of Clopper-Pearson's
    over plays (few plays) and Student's over models (models differ). `certain` counts the
    records whose rate exceeds `fpr` with all limits holding together (Bonferroni over records). `ConfigError` for
    fewer than 4 models, one without both sides, or too few non-members for `fpr`.
    """
    check_confidence(confidence)
    if scores.shape != inside.shape or scores.ndim != 2 or scores.shape[1] != len(records):
        raise ConfigError(f"record risk: scores {scores.shape}, inside {inside.shape}, {len(records)} records")
    if len(scores) < 4:
        raise ConfigError(f"record risk needs at least 4 models that play the target, got {len(scores)}")
    flagged, ranks = _judged(scores, inside, fpr)
    plays = inside.sum(axis=0).astype(np.int64)
    hits = (flagged & inside).sum(axis=0).astype(np.int64)
    seen = plays > 0
    low, high = clopper_pearson(np.where(seen, hits, 0), np.maximum(plays, 1), confidence)
    sure, _ = clopper_pearson(np.where(seen, hits, 0), np.maximum(plays, 1), 1 - 2 * (1 - confidence) / len(records))
    mean, reach = _student(np.where(inside, ranks, np.nan), confidence)
    blank = np.where(seen, 0.0, np.nan)
    return RecordRisk(
        fpr=fpr,
        confidence=confidence,
        records=records,
        plays=plays,
        hits=hits,
        rate=hits / np.maximum(plays, 1) + blank,
        low=low + blank,
        high=high + blank,
        rank=mean,
        rank_low=np.clip(mean - reach, 0, 1),
        rank_high=np.clip(mean + reach, 0, 1),
        certain=int((seen & (sure > fpr)).sum()),
        table=tuple((share, _top(flagged, ranks, inside, share, confidence)) for share in TOP_SHARES),
    )


def _judged(scores: NDArray[np.float64], inside: BoolArray, fpr: float) -> tuple[BoolArray, NDArray[np.float64]]:
    """Which scores pass their model's threshold, and the share of its non-members below each (ties one half)."""
    flagged, ranks = np.zeros(scores.shape, dtype=np.bool_), np.empty(scores.shape)
    for model, (values, truth) in enumerate(zip(scores, inside, strict=True)):
        split = SplitScores.of(values, truth)
        point = operating_point(split, fpr)
        if point.value is None:
            raise ConfigError(f"record risk: a true-positive rate at {fpr:g} false positives is {point.reason}")
        flagged[model] = values > point.above
        below = np.searchsorted(split.nonmembers, values, side="left")
        ranks[model] = (below + np.searchsorted(split.nonmembers, values, side="right")) / (2 * len(split.nonmembers))
    return flagged, ranks


def _top(
    flagged: BoolArray, ranks: NDArray[np.float64], inside: BoolArray, share: float, confidence: float
) -> Interval:
    """True-positive rate, over plays, of the records that the other half of the models finds riskiest."""
    half = len(flagged) // 2
    rates: list[float] = []
    hits = trials = 0
    for choosing, measuring in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
        times = np.maximum(inside[choosing].sum(axis=0), 1)
        rate = (flagged & inside)[choosing].sum(axis=0) / times
        rank = np.where(inside, ranks, 0.0)[choosing].sum(axis=0) / times
        chosen = np.lexsort((-rank, -rate))[: math.ceil(share * ranks.shape[1])]
        members = inside[measuring][:, chosen]
        found = (flagged[measuring][:, chosen] & members).sum(axis=1)
        hits, trials = hits + int(found.sum()), trials + int(members.sum())
        rates += (found / np.maximum(members.sum(axis=1), 1))[members.any(axis=1)].tolist()
    if len(rates) < 2:
        return Interval(hits / max(trials, 1), 0.0, 1.0)
    exact = binomial_interval(hits, trials, confidence)
    reach = float(stats.t.ppf(0.5 + confidence / 2, len(rates) - 1) * np.std(rates, ddof=1) / math.sqrt(len(rates)))
    return Interval(
        exact.value, max(min(exact.low, exact.value - reach), 0.0), min(max(exact.high, exact.value + reach), 1.0)
    )


def _student(values: NDArray[np.float64], confidence: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over models (axis 0) without NaN, and the half-width of Student's interval (all of [0, 1] below two)."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    filled = np.where(known, values, 0.0)
    mean = np.where(count > 0, filled.sum(axis=0) / np.maximum(count, 1), np.nan)
    squares = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0)
    error = np.sqrt(squares / np.maximum(count - 1, 1) / np.maximum(count, 1))
    return mean, np.where(count > 1, stats.t.ppf(0.5 + confidence / 2, np.maximum(count - 1, 1)) * error, 1.0)


def _percent(share: float) -> str:
    return f"{100 * share:g}".replace(".", "_")
