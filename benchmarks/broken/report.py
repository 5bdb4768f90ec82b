"""Tables of the zoo: for the terminal, for markdown, for JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from ...audit.metrics.intervals import binomial_interval
from .agreement import Agreement
from .measure import Alarms, Outcome
from .subject import CONFIDENCE, VIOLATION_CONFIDENCE, Kind

Cells = list[str]
WIDTH = 190
"""Columns where there is no terminal to ask."""


@dataclass(frozen=True, slots=True)
class Results:
    """What the suite measured; `elapsed` and `processor` in seconds."""

    outcomes: tuple[Outcome, ...]
    alarms: tuple[Alarms, ...]
    agreements: tuple[Agreement, ...]
    elapsed: float
    processor: float

    @property
    def caught(self) -> int:
        """Entries caught by the check that must."""
        return sum(o.caught for o in self.outcomes)

    @property
    def audits(self) -> int:
        """Dynamic audits of correct trainers."""
        return sum(a.audits for a in self.alarms)

    @property
    def false_alarms(self) -> int:
        """Of any kind on correct trainers; audits at 0.999."""
        return sum(a.alarms + a.static_alarms + a.probe_alarms for a in self.alarms)

    @property
    def good(self) -> bool:
        """Nothing missed, no false alarm, and the simulations are right."""
        return self.caught == len(self.outcomes) and not self.false_alarms and all(a.holds for a in self.agreements)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "good": self.good,
            "caught": self.caught,
            "entries": len(self.outcomes),
            "false_alarms": self.false_alarms,
            "audits": self.audits,
            "false_claims": self._false_claims(),
            "seconds": round(self.elapsed, 1),
            "processor_seconds": round(self.processor, 1),
            "versions": {name: version(name) for name in ("opacus", "torch", "numpy")},
            "zoo": [o.to_json() for o in self.outcomes],
            "correct": [asdict(a) for a in self.alarms],
            "agreement": [asdict(a) for a in self.agreements],
        }

    def _false_claims(self) -> dict[str, float]:
        wrong = sum(a.false_claims for a in self.alarms)
        return {"count": wrong, **binomial_interval(wrong, self.audits).to_json()}

    def summary(self) -> list[str]:
        """The result in sentences."""
        claims = self._false_claims()
        checks = sum(a.checks for a in self.alarms)
        real = sum(a.real_audits for a in self.alarms)
        return [
            f"{self.caught} of {len(self.outcomes)} broken trainers caught by the check that must catch them.",
            f"False alarms on {len(self.alarms)} correct trainers: {sum(a.alarms for a in self.alarms)} in "
            f"{self.audits} audits at confidence {VIOLATION_CONFIDENCE:g} ({real} on the trainer itself, the rest on a "
            f"simulation of its law), {sum(a.static_alarms for a in self.alarms)} in {checks} rounds of static checks, "
            f"{sum(a.probe_alarms for a in self.alarms)} in {checks} rounds of probes.",
            f"False claims at confidence {CONFIDENCE:g}: {claims['count']:g} of {self.audits} "
            f"(95 % interval {claims['low']:.3f} .. {claims['high']:.3f}, allowed {1 - CONFIDENCE:.2f}).",
            "Simulations against real runs, Kolmogorov-Smirnov p: "
            + ", ".join(f"{a.name} {a.p_value:.2f}" for a in self.agreements)
            + ".",
            f"{self.elapsed:.0f} s, {self.processor:.0f} processor seconds; Opacus {version('opacus')}, "
            f"torch {version('torch')}.",
        ]


ZOO_HEADER = [
    "entry",
    "what is wrong",
    "must catch",
    "caught",
    "by",
    "static",
    "probe",
    "audit: certified / claim / ceiling",
]
ALARM_HEADER = [
    "correct trainer",
    "audits (real)",
    "alarms at 0.999",
    "false claims at 0.95",
    "highest at 0.95 / claim",
    "rounds of checks",
    "static alarms",
    "probe alarms",
]


def zoo_rows(results: Results) -> list[Cells]:
    """One row an entry."""
    return [
        [
            o.entry.name,
            o.entry.title,
            o.entry.catch,
            "yes" if o.caught else "MISSED",
            o.entry.rule,
            _objections(o, "static"),
            _objections(o, "probe"),
            _audit(o),
        ]
        for o in results.outcomes
    ]


def alarm_rows(results: Results) -> list[Cells]:
    """One row a correct trainer."""
    return [
        [
            a.name,
            f"{a.audits} ({a.real_audits})",
            str(a.alarms),
            str(a.false_claims),
            f"{a.most_certified:.3f} / {a.promised:.3f}",
            str(a.checks),
            str(a.static_alarms),
            str(a.probe_alarms),
        ]
        for a in results.alarms
    ]


def markdown(results: Results) -> str:
    """Both tables, the summary, and the sentence of each catch."""
    lines = [*(f"* {line}" for line in results.summary()), "", *_table(ZOO_HEADER, zoo_rows(results)), ""]
    lines += [*_table(ALARM_HEADER, alarm_rows(results)), ""]
    lines += [f"* `{o.entry.name}`: {o.seen.detail(o.entry.rule)} ({o.entry.source})" for o in results.outcomes]
    return "\n".join([*lines, ""])


def print_tables(results: Results) -> None:
    """The same on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for title, header, rows in (
        ("Deliberately broken", ZOO_HEADER, zoo_rows(results)),
        ("Correct", ALARM_HEADER, alarm_rows(results)),
    ):
        table = Table(*header, title=title)
        for row in rows:
            table.add_row(*row, style="red" if "MISSED" in row else None)
        console.print(table)
    for line in results.summary():
        console.print(line, highlight=False)


def _objections(outcome: Outcome, kind: Kind) -> str:
    return ", ".join(rule.split(".", 1)[1] for rule in outcome.seen.objections(kind)) or "-"


def _audit(outcome: Outcome) -> str:
    seen = outcome.seen.dynamic
    if seen.incomparable:
        return "another adjacency"
    mark = "violated: " if seen.violated else ""
    return f"{mark}{seen.judged.epsilon:.2f} / {seen.promised:.2f} / {seen.judged.ceiling:.2f}"


def _table(header: Cells, rows: Iterable[Cells]) -> list[str]:
    return [_line(header), _line(["---"] * len(header)), *map(_line, rows)]


def _line(cells: Cells) -> str:
    return "| " + " | ".join(cells) + " |"
