"""The attack table: AUC and TPR at 1 % FPR of the peers' attacks and ours, over targets that see the same signals."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ...attacks.membership import Lira, LossThreshold, Rmia
from ...audit.errors import ConfigError
from ...audit.metrics import SplitScores, auc, operating_point
from ...audit.seeds import Seeds
from ...audit.types import Attack, BoolArray
from .outcome import AttackOutcome
from .signals import SignalsFixture

CONFIDENCE = 0.95
EQUAL = 0.0005
"""Half of the last digit printed: two programs of one attack differ by rounding and by the breaking of ties."""
MEASURES = ("auc", "tpr_at_1%_fpr")


@dataclass(frozen=True, slots=True)
class AttackInfo:
    """A row of the table before it is measured. Rows of one `family` may be compared: same idea, same shadows."""

    tool: str
    what: str
    family: str


def peer_attack_table() -> dict[str, AttackInfo]:
    """The peers' attacks by the names that the worker knows."""
    out = {
        f"art-blackbox-{kind}": AttackInfo("ART", f"BlackBox {kind}, half the records known", "no shadows")
        for kind in ("rf", "gb", "lr", "nn")
    }
    out["art-rule-based"] = AttackInfo("ART", "RuleBased", "no shadows")
    for n in (4, 8, 16, 32):
        for name in ("fixed", "per-example"):
            out[f"tf-lira-online-{name}-{n}"] = AttackInfo("TF-Privacy", f"LiRA, {name}", f"LiRA-{n} online")
            out[f"tf-lira-offline-{name}-{n}"] = AttackInfo("TF-Privacy", f"LiRA out, {name}", f"LiRA-{n} offline")
        for name in ("global", "mix", "per-example"):
            out[f"pg-lira-online-{name}-{n}"] = AttackInfo("PrivacyGuard", f"LiRA, {name}", f"LiRA-{n} online")
        out[f"pg-lira-offline-{n}"] = AttackInfo("PrivacyGuard", "LiRA offline", f"LiRA-{n} offline")
    for pairs in (1, 2, 4, 8):
        for mode in ("online", "offline", "offline-tuned"):
            family = f"RMIA-{pairs} {mode.partition('-')[0]}"
            out[f"pg-rmia-{mode}-{pairs}"] = AttackInfo("PrivacyGuard", f"RMIA {mode.replace('-', ', ')}", family)
    return out


def our_attack_table() -> dict[str, tuple[AttackInfo, Attack]]:
    """Our attacks by name, each in its family."""
    out: dict[str, tuple[AttackInfo, Attack]] = {"ours-loss": (_ours("loss", "no shadows"), LossThreshold())}
    for n in (4, 8, 16, 32):
        out[f"ours-lira-online-fixed-{n}"] = _ours("LiRA, fixed", f"LiRA-{n} online"), Lira(shadows=n)
        out[f"ours-lira-online-per-example-{n}"] = (
            _ours("LiRA, per-example", f"LiRA-{n} online"),
            Lira(shadows=n, variance="per-example"),
        )
        out[f"ours-lira-online-bayesian-{n}"] = (
            _ours("LiRA, Bayesian", f"LiRA-{n} online"),
            Lira(shadows=n, variance="bayesian"),
        )
        out[f"ours-lira-offline-{n}"] = (
            _ours("LiRA offline, one-sided", f"LiRA-{n} offline"),
            Lira(shadows=n, mode="offline"),
        )
    out["ours-lira-offline-2"] = _ours("LiRA offline, one-sided", "LiRA-2 offline"), Lira(shadows=2, mode="offline")
    for pairs in (1, 2, 4, 8):
        # k references in the literature's count: every record is outside k of 2k models.
        offline = Rmia(references=2 * pairs, mode="offline")
        out[f"ours-rmia-online-{pairs}"] = _ours("RMIA online", f"RMIA-{pairs} online"), Rmia(references=2 * pairs)
        out[f"ours-rmia-offline-{pairs}"] = _ours("RMIA offline", f"RMIA-{pairs} offline"), offline
        out[f"ours-rmia-offline-as-peer-{pairs}"] = (
            _ours("RMIA offline, scaling 0.3", f"RMIA-{pairs} offline"),
            replace(offline, offline_scaling=0.3),
        )
    return out


DEFAULTS = {
    **{f"LiRA-{n} online": f"ours-lira-online-fixed-{n}" for n in (4, 8, 16, 32)},
    **{f"LiRA-{n} offline": f"ours-lira-offline-{n}" for n in (4, 8, 16, 32)},
    **{f"RMIA-{pairs} {mode}": f"ours-rmia-{mode}-{pairs}" for mode in ("online", "offline") for pairs in (1, 2, 4, 8)},
}
"""In each family the row of ours that is compared: the attack's default settings, named before any result."""


def our_attack_outcomes(fixture: SignalsFixture, *, seeds: Seeds) -> list[AttackOutcome]:
    """Every attack of ours on every target."""
    out = []
    for target in range(fixture.targets):
        evidence = fixture.evidence(target)
        for name, (_, attack) in our_attack_table().items():
            started = time.perf_counter()
            scores = attack.score(evidence, seeds=seeds.at(name, target)).values
            seconds = time.perf_counter() - started
            judged = tuple(range(len(scores)))
            out.append(AttackOutcome(name, target, tuple(scores.tolist()), judged, seconds))
    return out


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over targets with Student's interval: targets are independent coin flips, the shadows are shared."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Mean:
        """At least 2 values, at confidence 0.95."""
        centre = float(values.mean())
        reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
        return cls(centre, centre - reach, centre + reach)


@dataclass(frozen=True, slots=True)
class AttackRow:
    """One attack over all targets: `values` per measure (targets,), mean seconds a target; or the `error`."""

    attack: str
    info: AttackInfo
    values: Mapping[str, NDArray[np.float64]]
    seconds: float
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """As written to peers.json."""
        means = {name: asdict(Mean.of(values)) for name, values in self.values.items()}
        return {
            "attack": self.attack,
            **asdict(self.info),
            **means,
            "seconds": self.seconds,
            "error": self.error or None,
        }


def attack_rows(outcomes: Iterable[AttackOutcome], inside: BoolArray) -> list[AttackRow]:
    """One row an attack, in the order of the tables; `inside` bool (targets, records). NaN scores are an error."""
    table = {**peer_attack_table(), **{name: info for name, (info, _) in our_attack_table().items()}}
    by_attack: dict[str, list[AttackOutcome]] = {}
    for outcome in outcomes:
        if outcome.attack not in table:
            raise ConfigError(f"attack table: unknown attack {outcome.attack!r}")
        by_attack.setdefault(outcome.attack, []).append(outcome)
    return [_row(name, info, by_attack[name], inside) for name, info in table.items() if name in by_attack]


@dataclass(frozen=True, slots=True)
class FamilyComparison:
    """Ours against the best peer of a family, target by target: the mean of (ours - peer) per measure."""

    family: str
    ours: str
    peer: str
    differences: Mapping[str, Mean]

    @property
    def at_least_equal(self) -> bool:
        """Whether no difference is below 0 beyond its interval; less than EQUAL is no difference."""
        return all(difference.high >= 0 or difference.value > -EQUAL for difference in self.differences.values())

    def to_json(self) -> dict[str, Any]:
        """As written to peers.json."""
        return {**asdict(self), "at_least_equal": self.at_least_equal}


def compare_families(rows: Sequence[AttackRow]) -> list[FamilyComparison]:
    """For each family and measure the peer with the best mean is compared: picked by its result, in its favour."""
    named = {row.attack: row for row in rows if not row.error}
    out = []
    for family, ours in DEFAULTS.items():
        peers = [r for r in named.values() if r.info.family == family and r.info.tool != "LeakGauge"]
        if ours not in named or not peers:
            continue
        best = {m: max(peers, key=lambda r: float(r.values[m].mean())) for m in MEASURES}
        differences = {m: Mean.of(named[ours].values[m] - best[m].values[m]) for m in MEASURES}
        who = " / ".join(dict.fromkeys(f"{best[m].info.tool} {best[m].info.what}" for m in MEASURES))
        out.append(FamilyComparison(family, ours, who, differences))
    return out


def _row(name: str, info: AttackInfo, outcomes: list[AttackOutcome], inside: BoolArray) -> AttackRow:
    errors = [f"target {o.target}: {o.error}" for o in outcomes if o.error]
    errors += [f"target {o.target}: NaN scores" for o in outcomes if np.isnan(o.scores).any()]
    seconds = float(np.mean([o.seconds for o in outcomes]))
    if errors:
        return AttackRow(name, info, {}, seconds, errors[0])
    measured = np.array([_measures(o, inside[o.target]) for o in sorted(outcomes, key=lambda o: o.target)])
    return AttackRow(name, info, dict(zip(MEASURES, measured.T, strict=True)), seconds)


def _measures(outcome: AttackOutcome, inside: BoolArray) -> tuple[float, float]:
    """AUC, and TPR at 1 % FPR with ties broken by a fair share, so that a tied score is no false zero."""
    scores, truth = np.array(outcome.scores), inside[list(outcome.judged)]
    point = operating_point(SplitScores.of(scores, truth), 0.01, CONFIDENCE)
    if point.value is None:
        raise ConfigError(f"attack table: TPR at 1 % FPR is {point.reason}; use at least 100")
    return auc(scores, truth), point.value


def _ours(what: str, family: str) -> AttackInfo:
    return AttackInfo("LeakGauge", what, family)
