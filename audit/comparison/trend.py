"""How leakage moved from baseline to baseline: the data behind a trend over commits."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .baseline import Baseline, BaselineFinding, read_baseline
from .extract import Key, keyed
from .figures import unscaled
from .prediction import Prediction


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """One baseline's mean over its seeds, between limits at the trend's confidence. `values` are the seeds' own."""

    label: str
    created: str | None
    commit: str | None
    file: str
    mean: float
    low: float
    high: float
    values: tuple[float, ...]
    verdicts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClaimPoint:
    """One baseline's claim."""

    label: str
    created: str | None
    commit: str | None
    file: str
    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True)
class TrendSeries:
    """One finding's deciding statistic over the baselines, oldest first."""

    key: Key
    statistic: str
    points: tuple[TrendPoint, ...]


@dataclass(frozen=True, slots=True)
class Trend:
    """All series of one audit; `claims` by trainer."""

    name: str
    confidence: float
    series: tuple[TrendSeries, ...]
    claims: dict[str, tuple[ClaimPoint, ...]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def read_trend(folder: Path, *, confidence: float = 0.95) -> list[Trend]:
    """The trends of all audits whose baselines lie in `folder` (`*.json`, subfolders included), by name.

    Baselines are ordered by when their last run finished, then by file name. A statistic that changed starts a new
    series. Other JSON documents are passed over. Raises `ConfigError` when the folder holds no baseline; damaged files
    raise as in `read_baseline`.
    """
    paths = [p for p in sorted(folder.rglob("*.json")) if _may_be_baseline(p)] if folder.is_dir() else []
    if not paths:
        raise ConfigError(f"{folder}: no baselines (*.json) there")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie strictly between 0 and 1, got {confidence}")
    read = [(read_baseline(path), path) for path in paths]
    read.sort(key=lambda pair: (pair[0].created or "", str(pair[1])))
    names = sorted({baseline.name for baseline, _ in read})
    return [_trend(name, [(b, p) for b, p in read if b.name == name], confidence) for name in names]


def _may_be_baseline(path: Path) -> bool:
    """False for a JSON document that says it is something else; what cannot be read counts as a damaged baseline."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return True
    return isinstance(document, dict) and str(document.get("schema", "")).startswith("leakgauge/baseline/")


def _trend(name: str, baselines: list[tuple[Baseline, Path]], confidence: float) -> Trend:
    series: dict[tuple[Key, str], list[TrendPoint]] = {}
    claims: dict[str, list[ClaimPoint]] = {}
    for baseline, path in baselines:
        where = (_label(baseline, path), baseline.created, baseline.commit, path.name)
        for key, finding in keyed((f.rule, f.trainer, f.attack, f) for f in baseline.findings).items():
            if finding.statistic is not None:
                series.setdefault((key, finding.statistic), []).append(_point(finding, where, confidence))
        for claim in baseline.claims:
            claims.setdefault(claim["trainer"], []).append(ClaimPoint(*where, claim["epsilon"], claim["delta"]))
    return Trend(
        name,
        confidence,
        tuple(TrendSeries(key, statistic, tuple(points)) for (key, statistic), points in series.items()),
        {trainer: tuple(points) for trainer, points in claims.items()},
    )


def _point(finding: BaselineFinding, where: tuple[str, str | None, str | None, str], confidence: float) -> TrendPoint:
    statistic = finding.statistic or ""
    seen = finding.figures[statistic].observations()
    prediction = Prediction.of(seen)
    low, high = prediction.mean_limits((1 - confidence) / 2)
    better = finding.figures[statistic].better
    mean, *limits = (unscaled(statistic, v, seen[0].n, better) for v in (prediction.mean, low, high))
    return TrendPoint(*where, mean, min(limits), max(limits), tuple(o.value for o in seen), tuple(finding.verdicts))


def _label(baseline: Baseline, path: Path) -> str:
    return baseline.commit[:10] if baseline.commit else path.stem
