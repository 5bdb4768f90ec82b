"""The coverage table: how often each call claims more than the truth, and what it certifies on average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ...audit.errors import ConfigError
from .fixtures import TRUTHS
from .outcome import CallOutcome
from .planning import ALPHA

TOLERANCE = 1e-6
"""Solvers stop this far from the root; a claim above the truth by less is no false claim."""

Kind = Literal["bound", "gdp bound", "estimate"]


@dataclass(frozen=True, slots=True)
class CallInfo:
    """A row of the table before it is measured.

    `knowledge` is what was fixed with the Laplace law in mind. `trials` on either fixture, `null_trials` on the null
    fixture where a slow call is given fewer there.
    """

    tool: str
    what: str
    kind: Kind
    knowledge: str
    trials: int
    null_trials: int | None = None

    def trials_on(self, fixture: str) -> int:
        """How many audits of `fixture` this call is tried on."""
        return self.null_trials if fixture == "null" and self.null_trials is not None else self.trials


PEER_CALLS: dict[str, CallInfo] = {
    "tf-bailey": CallInfo("TF-Privacy", "Bailey, top 1 (its report)", "bound", "none", 2000),
    "tf-clopper-pearson": CallInfo("TF-Privacy", "Clopper-Pearson, top 1", "bound", "none", 2000),
    "jax-one-run-bonferroni": CallInfo("jax-privacy", "one-run, Bonferroni (default)", "bound", "none", 4000),
    "jax-one-run-split": CallInfo("jax-privacy", "one-run, Split", "bound", "none", 2000),
    "jax-one-run-multisplit": CallInfo("jax-privacy", "one-run, MultiSplit", "bound", "none", 40),
    "jax-one-run-explicit": CallInfo("jax-privacy", "one-run, Explicit", "bound", "threshold", 4000),
    "jax-clopper-pearson-bonferroni": CallInfo("jax-privacy", "Clopper-Pearson, Bonferroni", "bound", "none", 2000),
    "jax-clopper-pearson-two-sided": CallInfo(
        "jax-privacy", "Clopper-Pearson, Bonferroni, both directions", "bound", "none", 2000
    ),
    "jax-clopper-pearson-split": CallInfo("jax-privacy", "Clopper-Pearson, Split", "bound", "none", 2000),
    "jax-clopper-pearson-multisplit": CallInfo("jax-privacy", "Clopper-Pearson, MultiSplit", "bound", "none", 200),
    "jax-clopper-pearson-explicit": CallInfo("jax-privacy", "Clopper-Pearson, Explicit", "bound", "threshold", 2000),
    "jax-raw-counts": CallInfo("jax-privacy", "epsilon_raw_counts(10)", "estimate", "none", 2000),
    "jax-gdp": CallInfo("jax-privacy", "epsilon_from_gdp, delta 1e-5", "gdp bound", "none", 2000),
    "pg-eps-cp": CallInfo("PrivacyGuard", "eps_cp", "bound", "none", 3000, 400),
    "pg-eps": CallInfo("PrivacyGuard", "eps (headline)", "estimate", "none", 25),
    "pg-eps-lb": CallInfo("PrivacyGuard", "eps_lb", "bound", "none", 25),
    "ms-clopper-pearson": CallInfo("privacy-estimates", "Clopper-Pearson", "bound", "threshold", 2000),
    "ms-jeffreys": CallInfo("privacy-estimates", "Jeffreys", "bound", "threshold", 2000),
}
OUR_CALLS: dict[str, CallInfo] = {
    "ours-one-run": CallInfo("LeakGauge", "one-run, guesses planned", "bound", "guesses", 4000),
    "ours-one-run-all": CallInfo("LeakGauge", "one-run, every canary guessed", "bound", "none", 4000),
    "ours-one-run-anytime": CallInfo("LeakGauge", "one-run-anytime", "bound", "none", 2000),
    "ours-clopper-pearson": CallInfo("LeakGauge", "clopper-pearson, fixed threshold", "bound", "threshold", 4000),
    "ours-clopper-pearson-holdout": CallInfo("LeakGauge", "clopper-pearson, held out", "bound", "none", 2000),
}
CALLS = {**PEER_CALLS, **OUR_CALLS}


@dataclass(frozen=True, slots=True)
class Rate:
    """False claims on one fixture: `claims` of `trials` values above the truth; mean value; seconds a call."""

    trials: int
    claims: int
    mean: float
    seconds: float

    @classmethod
    def of(cls, outcome: CallOutcome, truth: float) -> Rate:
        """Counts an infinite or missing value as the tool gave it: inf is a false claim, -inf is none, NaN is none."""
        values = np.array(outcome.values)
        claims = int((values > truth + TOLERANCE).sum())
        finite = values[np.isfinite(values)]
        return cls(len(values), claims, float(finite.mean()) if len(finite) else math.nan, outcome.seconds)

    @property
    def rate(self) -> float:
        """The share of trials with a false claim."""
        return self.claims / self.trials

    @property
    def standard_error(self) -> float:
        """Of `rate`; with no or only false claims that of one more or fewer, so that it is never 0."""
        shrunk = min(max(self.claims, 1), self.trials - 1) / self.trials
        return math.sqrt(shrunk * (1 - shrunk) / self.trials)

    @property
    def slack(self) -> float:
        """3 standard errors of the rate of a bound whose false-claim rate is exactly ALPHA."""
        return 3 * math.sqrt(ALPHA * (1 - ALPHA) / self.trials)

    @property
    def tolerable(self) -> bool:
        """Whether so many false claims are no evidence against a false-claim rate of ALPHA."""
        return self.rate <= ALPHA + self.slack

    def to_json(self) -> dict[str, Any]:
        """Counts and what follows from them."""
        return {
            **asdict(self),
            "mean": None if math.isnan(self.mean) else self.mean,
            "rate": self.rate,
            "standard_error": self.standard_error,
        }


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """One call on all fixtures. `error` says what failed; then there are no rates."""

    call: str
    rates: Mapping[str, Rate]
    error: str = ""

    @property
    def info(self) -> CallInfo:
        """Who answers, and how."""
        return CALLS[self.call]

    @property
    def verdict(self) -> str:
        """`valid` or `invalid` at the nominal level, over the fixtures inside the call's null class.

        `undecided` where so few trials would hide twice the nominal rate, `error` where the call failed. Laplace noise
        is no Gaussian mechanism, so a GDP bound is judged on the null fixture alone.
        """
        if self.error:
            return "error"
        judged = [r for f, r in self.rates.items() if self.info.kind != "gdp bound" or f == "null"]
        if not all(rate.tolerable for rate in judged):
            return "invalid"
        return "valid" if all(rate.slack <= ALPHA for rate in judged) else "undecided"

    @property
    def mean(self) -> float:
        """Mean certified epsilon on the Laplace fixture; NaN where there is none."""
        return self.rates["laplace"].mean if "laplace" in self.rates else math.nan

    def to_json(self) -> dict[str, Any]:
        """As written to peers.json."""
        rates = {fixture: rate.to_json() for fixture, rate in self.rates.items()}
        info = {"tool": self.info.tool, "what": self.info.what, "kind": self.info.kind}
        return {
            "call": self.call,
            **info,
            "knowledge": self.info.knowledge,
            "verdict": self.verdict,
            "fixtures": rates,
            "error": self.error or None,
        }


def coverage_rows(outcomes: Iterable[CallOutcome], truths: Mapping[str, float] = TRUTHS) -> list[CoverageRow]:
    """One row a call, in the order of `CALLS`; a call that failed on any fixture is a row with its error."""
    by_call: dict[str, list[CallOutcome]] = {}
    for outcome in outcomes:
        if outcome.call not in CALLS:
            raise ConfigError(f"coverage table: unknown call {outcome.call!r}")
        by_call.setdefault(outcome.call, []).append(outcome)
    rows = []
    for call in (c for c in CALLS if c in by_call):
        errors = [f"{o.fixture}: {o.error}" for o in by_call[call] if o.error]
        good = {} if errors else {o.fixture: Rate.of(o, truths[o.fixture]) for o in by_call[call]}
        rows.append(CoverageRow(call, good, "; ".join(errors)))
    return rows


@dataclass(frozen=True, slots=True)
class Comparison:
    """The best bound of the peers that is not shown invalid, and ours, by mean epsilon on the Laplace fixture.

    `peer` is the best of the peers that are not given a threshold planned with the law known, `informed_peer` of
    those that are; so also `ours` and `uninformed`, the best of ours without and with nothing planned.
    """

    ours: CoverageRow
    uninformed: CoverageRow
    peer: CoverageRow | None
    informed_peer: CoverageRow | None

    @property
    def ahead(self) -> bool:
        """Whether each of ours is valid and above the peers that know as much as it does."""
        pairs = ((self.ours, self.peer), (self.ours, self.informed_peer), (self.uninformed, self.peer))
        valid = self.ours.verdict == self.uninformed.verdict == "valid"
        return valid and all(peer is None or our.mean > peer.mean for our, peer in pairs)


def compare(rows: Sequence[CoverageRow]) -> Comparison:
    """The comparison of the table. Ours are named beforehand, not picked by their result."""
    named = {row.call: row for row in rows}
    bounds = [
        r for r in rows if r.call in PEER_CALLS and r.verdict in {"valid", "undecided"} and r.info.kind == "bound"
    ]
    return Comparison(
        ours=named["ours-one-run"],
        uninformed=named["ours-one-run-anytime"],
        peer=_best(r for r in bounds if r.info.knowledge == "none"),
        informed_peer=_best(r for r in bounds if r.info.knowledge != "none"),
    )


def _best(rows: Iterable[CoverageRow]) -> CoverageRow | None:
    return max((r for r in rows if not math.isnan(r.mean)), key=lambda r: r.mean, default=None)
