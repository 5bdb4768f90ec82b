"""Which attack should beat which on the shared signals, written down before they are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .attacks import MEASURES, AttackRow, Mean


@dataclass(frozen=True, slots=True)
class Expected:
    """`better` should have the higher AUC and TPR at 1 % FPR than `worse`; both are names of rows."""

    statement: str
    better: str
    worse: str


EXPECTED: tuple[Expected, ...] = (
    *(
        Expected(
            f"LiRA-{n}: pooled variance over per-example",
            f"ours-lira-online-fixed-{n}",
            f"ours-lira-online-per-example-{n}",
        )
        for n in (4, 8, 16)
    ),
    *(
        Expected(f"LiRA-{n}: Bayesian over {other}", f"ours-lira-online-bayesian-{n}", f"ours-lira-online-{other}-{n}")
        for n in (4, 8)
        for other in ("fixed", "per-example")
    ),
    *(
        Expected(f"LiRA-{n} offline: one-sided over two-sided", f"ours-lira-offline-{n}", f"tf-lira-offline-fixed-{n}")
        for n in (4, 8, 16, 32)
    ),
    *(
        Expected(f"RMIA-1 online over LiRA-{n} offline, one-sided", "ours-rmia-online-1", f"ours-lira-offline-{n}")
        for n in (2, 4)
    ),
    Expected("RMIA-1 online over LiRA-4 offline, two-sided", "ours-rmia-online-1", "tf-lira-offline-fixed-4"),
)


@dataclass(frozen=True, slots=True)
class Ordering:
    """An expectation and what was measured: mean of (better - worse) over targets, per measure."""

    expected: Expected
    differences: Mapping[str, Mean]

    @property
    def holds(self) -> bool:
        """The AUC is higher beyond its interval, the TPR (noisier) on average."""
        auc, tpr = (self.differences[m] for m in MEASURES)
        return auc.low > 0 and tpr.value > 0

    def to_json(self) -> dict[str, Any]:
        """As written to peers.json."""
        return {**asdict(self.expected), "differences": asdict(self)["differences"], "holds": self.holds}


def orderings(rows: Sequence[AttackRow]) -> list[Ordering]:
    """All expectations about rows that were measured without error."""
    named = {row.attack: row for row in rows if not row.error}
    return [
        Ordering(
            expected,
            {m: Mean.of(named[expected.better].values[m] - named[expected.worse].values[m]) for m in MEASURES},
        )
        for expected in EXPECTED
        if expected.better in named and expected.worse in named
    ]
