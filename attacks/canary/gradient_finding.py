"""From scores of gradient canaries to a finding of `audit.json` (DESIGN 8), rule `canary.gradient`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...audit.accounting import require_comparable
from ...audit.bounds import GuessCounts, OneRun, OneRunFdp
from ...audit.design import CoinTrials
from ...audit.metrics import membership_metrics
from ...audit.types import Adjacency, Bound, Claim
from ...audit.verdict import REASONS, Circumstances, judge

RULE = "canary.gradient"
STATEMENT = (
    "an excluded canary stays as a row with zero gradient (zero-out), and sampling rate, steps, divisor and number of "
    "rows do not depend on any coin, so that leaving a canary out and removing it are the same experiment: the bound "
    "holds for add-remove"
)


@dataclass(frozen=True, slots=True)
class GradientPlan:
    """How the audit is judged, all of it fixed before training. `guesses` counts both ends: half in, half out."""

    guesses: int = 200
    delta: float = 1e-5
    confidence: float = 0.95
    violation_confidence: float = 0.999
    alpha_share: float = 1.0

    def bound(self, counts: GuessCounts, confidence: float) -> Bound:
        """The deciding bound, `one-run`: any mechanism."""
        return OneRun().certify(counts, delta=self.delta, confidence=confidence, alpha_share=self.alpha_share)

    def family_bound(self, counts: GuessCounts, claim: Claim, confidence: float) -> Bound:
        """`one-run-fdp` within DP-SGD(q, T) of the claim: closer, and shown beside the deciding one."""
        family = OneRunFdp("dp-sgd", claim.mechanism["sample_rate"], int(claim.mechanism["steps"]))
        return family.certify(counts, delta=self.delta, confidence=confidence, alpha_share=self.alpha_share)


def gradient_finding(
    trials: CoinTrials,
    claim: Claim,
    plan: GradientPlan,
    *,
    twin: GuessCounts | None = None,
    fixed_normalisation: bool = True,
    steps: int,
    statistic: str = "llr-measured",
    trainer: str = "dp-sgd",
    family: bool = False,
) -> dict[str, Any]:
    """One finding. `twin` are the guesses of the same audit on training without clipping and noise.

    `fixed_normalisation`: sampling rate, steps and divisor are public constants. Where they follow from the number of
    rows (`PrivacyEngine.make_private`), the canary's zero row keeps them fixed in the game but not in the claim, so an
    add-remove claim is neither refuted nor supported and the verdict is `underpowered`, reason `adjacency-differs`.
    `family` adds the dp-sgd(q, T) bound to the evidence; it takes some ten seconds and decides nothing.
    """
    counts = trials.count(plan.guesses)
    reported, judged = plan.bound(counts, plan.confidence), plan.bound(counts, plan.violation_confidence)
    twin_epsilon = None if twin is None else plan.bound(twin, plan.violation_confidence).epsilon
    if fixed_normalisation:
        require_comparable(claim, adjacency=Adjacency.ZERO_OUT, unit=trials.unit, independent_of_size=True)
    adjacency = claim.adjacency if fixed_normalisation else Adjacency.ZERO_OUT
    judgement = judge(claim, judged, Circumstances(adjacency=adjacency, unit=trials.unit, twin_epsilon=twin_epsilon))
    evidence: dict[str, Any] = {
        "refutes": judgement.refutes,
        "needs": {"shadows": 0, "access": ["transcript"], "population": False},
        "model_steps": steps,
        "statistic": statistic,
        "adjacency": str(Adjacency.ZERO_OUT),
        "twin_epsilon": twin_epsilon,
    }
    if fixed_normalisation:
        evidence["adjacency_statement"] = STATEMENT
    if judgement.reason:
        evidence["meaning"] = REASONS[judgement.reason]
    if family:
        evidence["family_bound"] = plan.family_bound(counts, claim, plan.confidence).to_json()
    return {
        "rule": RULE,
        "verdict": str(judgement.verdict),
        "trainer": trainer,
        "attack": "gradient",
        "metrics": membership_metrics(trials.scores, trials.inside, confidence=plan.confidence).to_json(),
        "claim": {"epsilon": claim.epsilon_at(plan.delta), "delta": plan.delta},
        "bound": reported.to_json(),
        "judged": {
            "confidence": plan.violation_confidence,
            "epsilon": judged.epsilon,
            "ceiling": judged.ceiling,
            "alpha": judged.alpha,
        },
        "reason": judgement.reason,
        "evidence": evidence,
    }
