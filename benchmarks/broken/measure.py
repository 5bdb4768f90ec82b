"""Every check on every entry, and on the correct trainers again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...audit.checks import CheckResult, failures
from ...audit.seeds import Seeds
from .subject import KINDS, Audited, Broken, Kind, Subject


@dataclass(frozen=True, slots=True)
class Examined:
    """What all three kinds of check said of one trainer; `failed` results only."""

    static: tuple[CheckResult, ...]
    probe: tuple[CheckResult, ...]
    dynamic: Audited

    def objections(self, kind: Kind) -> tuple[str, ...]:
        """The rules of this kind that objected, each once."""
        if kind == "dynamic":
            return ("audit",) if self.dynamic.violated else ()
        return tuple(dict.fromkeys(r.rule for r in (self.static if kind == "static" else self.probe)))

    def detail(self, rule: str) -> str:
        """The sentence of the first result with this rule; for the audit, its figures."""
        if rule == "audit":
            return f"certified {self.dynamic.judged.epsilon:.3f} above the claimed {self.dynamic.promised:.3f}"
        return next((r.detail for r in (*self.static, *self.probe) if r.rule == rule), "")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One entry of the zoo, examined."""

    entry: Broken
    seen: Examined
    seconds: float

    @property
    def caught(self) -> bool:
        """By the kind and the rule that the entry names."""
        return self.entry.rule in self.seen.objections(self.entry.catch)

    @property
    def bonus(self) -> tuple[Kind, ...]:
        """The other kinds that objected."""
        return tuple(k for k in KINDS if k != self.entry.catch and self.seen.objections(k))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        entry = self.entry
        return {
            "name": entry.name,
            "title": entry.title,
            "source": entry.source,
            "breaks": entry.breaks,
            "catch": entry.catch,
            "rule": entry.rule,
            "caught": self.caught,
            "objections": {kind: list(self.seen.objections(kind)) for kind in KINDS},
            "detail": self.seen.detail(entry.rule),
            "audit": self.seen.dynamic.to_json(),
            "cpu_seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True, slots=True)
class Alarms:
    """A correct trainer audited many times: how often each kind objected."""

    name: str
    audits: int
    real_audits: int
    alarms: int
    false_claims: int
    most_certified: float
    promised: float
    checks: int
    static_alarms: int
    probe_alarms: int
    rules: tuple[str, ...]
    seconds: float


def examine(subject: Subject, *, seeds: Seeds) -> Examined:
    """All three kinds, the audit on the real thing."""
    return Examined(
        tuple(failures(subject.static(seeds=seeds.at("static")))),
        tuple(failures(subject.probe(seeds=seeds.at("probe")))),
        subject.dynamic(seeds=seeds.at("dynamic")),
    )


def examine_all(zoo: Sequence[Broken], *, seeds: Seeds, say: Callable[[str], None]) -> list[Outcome]:
    """Every entry once."""
    outcomes = []
    for entry in zoo:
        started = time.process_time()
        seen = examine(entry.make(), seeds=seeds.at(entry.name))
        outcomes.append(Outcome(entry, seen, time.process_time() - started))
        say(f"{entry.name}: {'caught' if outcomes[-1].caught else 'MISSED'} ({entry.catch})")
    return outcomes


def alarm_all(
    correct: Mapping[str, Callable[[], Subject]],
    *,
    audits: int,
    real: int,
    checks: int,
    seeds: Seeds,
    say: Callable[[str], None],
) -> list[Alarms]:
    """Every correct trainer: `checks` times all static checks and probes, `real` audits of the trainer itself, the
    rest of `audits` by simulation of its law."""
    return [_alarms(name, make(), audits, real, checks, seeds.at(name), say) for name, make in correct.items()]


class Progress:
    """One line a step on standard error, with the time left by the share of steps done."""

    def __init__(self, steps: int) -> None:
        self._steps, self._done, self._started = steps, 0, time.monotonic()

    def __call__(self, text: str) -> None:
        """One step is done."""
        self._done += 1
        left = (time.monotonic() - self._started) / self._done * (self._steps - self._done)
        print(f"[{self._done}/{self._steps}, about {left:.0f} s left] {text}", file=sys.stderr, flush=True)


def _alarms(
    name: str, subject: Subject, audits: int, real: int, checks: int, seeds: Seeds, say: Callable[[str], None]
) -> Alarms:
    started = time.process_time()
    static = [failures(subject.static(seeds=seeds.at("static", i))) for i in range(checks)]
    probe = [failures(subject.probe(seeds=seeds.at("probe", i))) for i in range(checks)]
    seen = [subject.dynamic(seeds=seeds.at("real", i)) for i in range(real)]
    seen += [subject.again(seeds=seeds.at("again", i)) for i in range(audits - real)]
    found = Alarms(
        name,
        audits=len(seen),
        real_audits=sum(a.real for a in seen),
        alarms=sum(a.violated for a in seen),
        false_claims=sum(a.claimed_wrongly for a in seen),
        most_certified=max(a.reported.epsilon for a in seen),
        promised=seen[0].promised,
        checks=checks,
        static_alarms=sum(bool(f) for f in static),
        probe_alarms=sum(bool(f) for f in probe),
        rules=tuple(sorted({r.rule for f in (*static, *probe) for r in f})),
        seconds=time.process_time() - started,
    )
    say(f"{name}: {found.alarms} alarms in {found.audits} audits")
    return found
