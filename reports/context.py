"""What every section is built from: the audit as types, the catalogue, and the few figures that sum an audit up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .attestation import Attestation
from .blocks import Badge
from .model import VERDICTS, Audit, Claim, Finding, Verdict
from .texts import Texts

DECIDING = frozenset({"frequentist", "anytime"})
SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Headline:
    """One trainer in one line: epsilon claimed at the tested delta, certified, judged, and the largest showable.

    `certified` is the largest of the trainer's unconditional bounds on this claim. That maximum is valid because the
    bounds of an audit hold together at its confidence: each was given its share of the error probability beforehand.
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
        """Trainers in order of their worst verdict, those with a claim first among equals."""
        known = dict.fromkeys(
            [t.id for t in self.audit.system.trainers] + [finding.trainer for finding in self.audit.findings]
        )
        found = [trainer for trainer in known if self.findings_of(trainer)]
        return sorted(found, key=lambda t: (VERDICTS.index(self.worst(t)), self.claim_of(t) is None))

    def worst(self, trainer: str | None) -> Verdict:
        """The worst verdict about one trainer."""
        return min((f.verdict for f in self.findings_of(trainer)), key=VERDICTS.index, default="underpowered")

    def headlines(self) -> list[Headline]:
        """One line a trainer, worst first."""
        return [self.headline(trainer) for trainer in self.trainers()]

    def headline(self, trainer: str | None) -> Headline:
        """The trainer's figures, from findings that test its own claim (not a group's) with an unconditional bound."""
        claim = self.claim_of(trainer)
        point = (claim.tested or claim) if claim else None
        epsilon = point.epsilon if point else None
        findings = [f for f in self.findings_of(trainer) if _counts(f, epsilon)]
        bounds = [f.bound for f in findings if f.bound]
        judged = [f.judged for f in findings if f.judged]
        return Headline(
            trainer=trainer,
            verdict=self.worst(trainer),
            claim=claim,
            tested_epsilon=epsilon,
            tested_delta=point.delta if point else None,
            certified=_largest(b.epsilon for b in bounds),
            confidence=bounds[0].confidence if bounds else None,
            judged=_largest(j.epsilon for j in judged),
            judged_confidence=judged[0].confidence if judged else None,
            ceiling=_largest(b.ceiling for b in bounds),
            twin=self._twin(trainer),
        )

    def _twin(self, trainer: str | None) -> float | None:
        control = self.audit.controls.positive
        if control is None:
            return None
        return _largest(f.at_confidence for f in control.figures if f.trainer == trainer)


def _counts(finding: Finding, epsilon: float | None) -> bool:
    bound = finding.bound
    if bound is None or bound.validity not in DECIDING or bound.null_class != "approx-dp":
        return False
    if finding.claim is None or epsilon is None:
        return True
    return abs(finding.claim.epsilon - epsilon) <= SAME * max(1.0, epsilon)


def _largest(values: Iterable[float | None]) -> float | None:
    return max((v for v in values if v is not None), default=None)
