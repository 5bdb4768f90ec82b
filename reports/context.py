"""What every section is built from: the audit as types, the catalogue, and the few figures that sum an audit up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .attestation import Attestation
from .blocks import Badge
from .model import VERDICTS, Audit, Claim, Finding, Point, TestedClaim, Verdict
from .texts import Texts

DECIDING = frozenset({"frequentist", "anytime"})
SAME = 1e-9
Tested = TestedClaim | Point | Claim


@dataclass(frozen=True, slots=True)
class Headline:
    """One trainer in one line: epsilon claimed at the tested delta, certified, judged, and the largest showable.

    `certified` is the largest of the trainer's unconditional bounds on this claim. That maximum is valid because the
    bounds of an audit hold together at its confidence: each was given its share of the error probability beforehand.
    `elsewhere` names the attack for which the claim amounts to another epsilon than its own, where that decided;
    `uncovered` counts findings against which the claim promises nothing.
    """

    trainer: str | None
    verdict: Verdict
    claim: Claim | None
    tested_epsilon: float | None
    tested_delta: float | None
    certified: float | None
    confidence: float | None
    judged: float | None
    judged_confidence: float | None
    ceiling: float | None
    twin: float | None
    elsewhere: str | None = None
    uncovered: int = 0

    @property
    def above_claim_but_not_judged(self) -> bool:
        """Whether the reported bound exceeds the claim while the judged one does not."""
        if self.tested_epsilon is None or self.certified is None:
            return False
        return self.certified > self.tested_epsilon and self.verdict != "violated"


@dataclass(frozen=True, slots=True)
class Context:
    """The audit, the reader's language, whether personal data may be shown, and what the run folder holds beside it.

    `salt` turns record ids into hashes; `attestation` is who vouches for the audit.
    """

    audit: Audit
    texts: Texts
    reveal: bool = False
    salt: str | None = None
    attestation: Attestation | None = None

    def badge(self, verdict: str) -> Badge:
        """A verdict in the reader's language."""
        return Badge(verdict, self.texts(f"verdict.{verdict}.label"))

    def trainer_name(self, trainer: str | None) -> str:
        """How a trainer is called in sentences; findings about no trainer concern the audit itself."""
        return self.texts("common.the_audit") if trainer is None else trainer

    def claim_of(self, trainer: str | None) -> Claim | None:
        """The trainer's claim, if it makes one."""
        return next((claim for claim in self.audit.claims if claim.trainer == trainer), None)

    def findings_of(self, trainer: str | None) -> list[Finding]:
        """The findings about one trainer."""
        return [finding for finding in self.audit.findings if finding.trainer == trainer]

    def trainers(self) -> list[str | None]:
        """Trainers by their worst verdict; among equals those whose own verdict it is, then those with a claim."""
        known = dict.fromkeys(
            [t.id for t in self.audit.system.trainers] + [finding.trainer for finding in self.audit.findings]
        )
        found = [trainer for trainer in known if self.findings_of(trainer)]
        return sorted(found, key=self._rank)

    def _rank(self, trainer: str | None) -> tuple[int, bool, bool]:
        worst = min((f.verdict for f in self.findings_of(trainer)), key=VERDICTS.index)
        return VERDICTS.index(worst), self.verdict_of(trainer) != worst, self.claim_of(trainer) is None

    def verdict_of(self, trainer: str | None) -> Verdict:
        """The worst verdict on a trainer's claim; findings outside of it (`no-claim`) count only where it has none."""
        verdicts = [f.verdict for f in self.findings_of(trainer)]
        if self.claim_of(trainer):
            verdicts = [v for v in verdicts if v != "no-claim"] or verdicts
        return min(verdicts, key=VERDICTS.index, default="underpowered")

    def headlines(self) -> list[Headline]:
        """One line a trainer, worst first."""
        return [self.headline(trainer) for trainer in self.trainers()]

    def headline(self, trainer: str | None) -> Headline:
        """The figures at the point of the claim that decided: its own, or what it amounts to for an attack."""
        claim, verdict = self.claim_of(trainer), self.verdict_of(trainer)
        own = (claim.tested or claim) if claim else None
        decided = [f for f in self.findings_of(trainer) if f.verdict == verdict and f.claim] if own else []
        elsewhere = None if any(_same(f.claim, own) for f in decided) or not decided else decided[0]
        point = elsewhere.claim if elsewhere and elsewhere.claim else own
        findings = [f for f in self.findings_of(trainer) if _counts(f, point)]
        bounds = [f.bound for f in findings if f.bound]
        judged = [f.judged for f in findings if f.judged]
        return Headline(
            trainer=trainer,
            verdict=verdict,
            claim=claim,
            tested_epsilon=point.epsilon if point else None,
            tested_delta=point.delta if point else None,
            certified=_largest(b.epsilon for b in bounds),
            confidence=bounds[0].confidence if bounds else None,
            judged=_largest(j.epsilon for j in judged),
            judged_confidence=judged[0].confidence if judged else None,
            ceiling=_largest(b.ceiling for b in bounds),
            twin=self._twin(trainer, point),
            elsewhere=(elsewhere.attack or elsewhere.rule) if elsewhere else None,
            uncovered=sum(f.verdict == "no-claim" for f in self.findings_of(trainer)) if claim else 0,
        )

    def _twin(self, trainer: str | None, point: Tested | None) -> float | None:
        control = self.audit.controls.positive
        if control is None:
            return None
        figures = [f for f in control.figures if f.trainer == trainer]
        return _largest(
            f.at_confidence for f in figures if f.claim is None or not point or _near(f.claim, point.epsilon)
        )


def _counts(finding: Finding, point: Tested | None) -> bool:
    """Whether a finding's bound is unconditional and belongs to this point of the claim; without a claim all do."""
    bound = finding.bound
    if bound is None or bound.validity not in DECIDING or bound.null_class != "approx-dp":
        return False
    return point is None or _same(finding.claim, point)


def _same(one: TestedClaim | None, other: Tested | None) -> bool:
    return one is not None and other is not None and _near(one.epsilon, other.epsilon)


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= SAME * max(1.0, other)


def _largest(values: Iterable[float | None]) -> float | None:
    return max((v for v in values if v is not None), default=None)
