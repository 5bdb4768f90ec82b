"""Assertions for test suites: scores are as private as claimed, a run leaks no more than its baseline."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .comparison import Baseline, Comparison, compare_run, read_baseline, read_run
from .comparison.compare import CONFIDENCE
from .comparison.display import text_lines
from .errors import ConfigError, IncompatibleError, UnderpoweredWarning
from .types import Adjacency, Claim, Unit, Verdict
from .verdict import REASONS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .scores import ScoreAudit

VIOLATION_CONFIDENCE = 0.999


def assert_private(
    scores: ArrayLike,
    inside: ArrayLike,
    epsilon: float,
    delta: float,
    *,
    confidence: float = VIOLATION_CONFIDENCE,
    design: Literal["coin", "runs"] = "coin",
    guesses: int | None = None,
    threshold: float | None = None,
    control: tuple[ArrayLike, ArrayLike] | None = None,
    allow_underpowered: bool = False,
    unit: Unit = Unit.RECORD,
    adjacency: Adjacency = Adjacency.ADD_REMOVE,
) -> ScoreAudit:
    """Fail unless membership `scores` (records,), higher for inside, are consistent with an (epsilon, delta) claim.

    `inside` bool (records,) is the truth; `design` how it was drawn, `guesses` or `threshold` how many or which scores
    count, fixed beforehand (`leakgauge score`). Raises `AssertionError` when the bound at `confidence` refutes the
    claim, and when even a perfect attack could not have refuted it (unless `allow_underpowered`). `control` are scores
    and truth of the same attack on the same model trained without protection: where their bound does not exceed the
    claim either, the attack is blind and the test underpowered. Without it an `UnderpoweredWarning` says so.
    """
    import numpy as np

    from .scores import audit_scores

    claim = Claim(epsilon, delta, unit, adjacency)
    settings: dict[str, Any] = {"design": design, "guesses": guesses, "threshold": threshold, "unit": unit}
    settings |= {"adjacency": adjacency, "confidence": min(0.95, confidence), "violation_confidence": confidence}
    if design not in {"coin", "runs"}:
        raise ConfigError(f"assert_private: design {design!r} certifies nothing; use 'coin' or 'runs'")
    found = audit_scores(np.asarray(scores, dtype=np.float64), np.asarray(inside), claim=claim, **settings)
    judged = found.judged
    assert judged is not None
    figures = (
        f"certified epsilon {judged.epsilon:.4g} at delta {delta:g} with confidence {confidence:g}, "
        f"claimed {epsilon:g}, ceiling {judged.ceiling:.4g}"
    )
    if found.judgement.verdict is Verdict.VIOLATED:
        raise AssertionError(f"not private: {figures}")
    blind = REASONS["ceiling-below-claim"] if judged.ceiling <= epsilon else None
    if blind is None and control is not None:
        twin = audit_scores(np.asarray(control[0], dtype=np.float64), np.asarray(control[1]), claim=claim, **settings)
        assert twin.judged is not None
        if twin.judged.epsilon <= epsilon:
            blind = f"{REASONS['twin-below-claim']} ({twin.judged.epsilon:.4g})"
    if blind is not None and not allow_underpowered:
        raise AssertionError(f"underpowered: {blind}; {figures}")
    if blind is None and control is None:
        warnings.warn(f"{REASONS['no-positive-control']}: give control=", UnderpoweredWarning, stacklevel=2)
    return found


def assert_no_regression(
    run: Path | str | Mapping[str, Any],
    baseline: Path | str | Baseline,
    *,
    confidence: float = CONFIDENCE,
    allow_underpowered: bool = False,
) -> Comparison:
    """Fail when `run` (an `audit.json`, its folder, or the document) leaks more than its `baseline` file.

    What fails is what `leakgauge compare` fails on; underpowered comparisons fail unless allowed. Raises
    `IncompatibleError` when the two cannot be compared.
    """
    document = run if isinstance(run, Mapping) else read_run(Path(run))
    against = baseline if isinstance(baseline, Baseline) else read_baseline(Path(baseline))
    found = compare_run(against, document, confidence=confidence)
    text = "\n".join(text_lines(found))
    if found.status == "incomparable":
        raise IncompatibleError(text)
    if found.status == "regressed" or (found.status == "underpowered" and not allow_underpowered):
        raise AssertionError(text)
    return found
