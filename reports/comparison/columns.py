"""Runs grouped into columns: runs of one audit that differ in their seed share one, and their figures are summed up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from ..context import Context
from ..model import Finding, Interval

Quantity = Callable[[Finding], Interval | float | None]


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """What is compared across columns: one trainer under one attack."""

    trainer: str
    attack: str

    def __str__(self) -> str:
        return f"{self.trainer} · {self.attack}"


@dataclass(frozen=True, slots=True)
class Column:
    """Runs of one audit: the same name and audit file up to the seed."""

    name: str
    runs: tuple[Context, ...]

    def findings(self, line: Line) -> list[Finding]:
        """This line's findings, at most one a run and rule."""
        return [f for run in self.runs for f in run.audit.findings if line_of(run, f) == line]

    def spread(self, line: Line, quantity: Quantity) -> Interval | None:
        """The quantity over the runs of the column."""
        return spread(found for f in self.findings(line) if (found := quantity(f)) is not None)


def line_of(run: Context, finding: Finding) -> Line:
    """Where a finding stands in the comparison."""
    return Line(run.trainer_name(finding.trainer), finding.attack or finding.rule)


def spread(values: Iterable[Interval | float]) -> Interval | None:
    """One value with its own interval, or the mean of `n` between the smallest and the largest; None without any.

    The spread over seeds is what training varies by; a record-level interval of one run does not contain it.
    """
    found = [v if isinstance(v, Interval) else Interval(value=v) for v in values]
    numbers = [v.value for v in found if v.value is not None]
    if not numbers:
        return None
    if len(numbers) == 1:
        alone = next(v for v in found if v.value is not None)
        return Interval(value=alone.value, low=alone.low, high=alone.high)
    return Interval(value=fmean(numbers), low=min(numbers), high=max(numbers), n=len(numbers))


def columns(runs: Sequence[Context]) -> tuple[Column, ...]:
    """Runs in the order given, grouped where they share a name and everything but their seed."""
    groups: dict[tuple[str, ...], list[Context]] = {}
    for run in runs:
        groups.setdefault(_kind(run), []).append(run)
    names = [group[0].audit.name for group in groups.values()]
    made = []
    for index, group in enumerate(groups.values()):
        name = names[index]
        earlier = names[:index].count(name)
        made.append(Column(f"{name} ({earlier + 1})" if names.count(name) > 1 else name, tuple(group)))
    return tuple(made)


def _kind(run: Context) -> tuple[str, ...]:
    audit = run.audit
    data = audit.system.data
    # The fingerprint of the data differs with the seed wherever rows are drawn; the name and size do not.
    parts = [audit.name, data.name if data else "", str(data.records if data else ""), str(audit.design.delta)]
    parts += [f"{t.id}={sorted((k, str(v)) for k, v in t.spec.items())}" for t in audit.system.trainers]
    return tuple(parts)


def lines(made: Sequence[Column]) -> tuple[Line, ...]:
    """Every trainer and attack that any column has, in order of appearance."""
    return tuple(dict.fromkeys(line_of(run, f) for column in made for run in column.runs for f in run.audit.findings))
