"""From a claim, a bound and the controls to a verdict (DESIGN 3, rules of evidence). Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import IncompatibleError
from .types import Adjacency, Bound, Claim, Unit, Validity, Verdict

DECIDING = frozenset({Validity.FREQUENTIST, Validity.ANYTIME})


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else a verdict depends on, besides the claim and the bound.

    `twin_epsilon` is the unprotected twin's judged bound from the same attack and design, None without a twin.
    `split_separates`: the blind baseline tells members from non-members. `negative_failed`: the pipeline certified
    leakage where there was none. `learned`: the model is better than guessing the majority class.
    `voids` are static reasons why the claim does not stand as stated. `reason_without_claim` says why a finding tests
    no claim although its trainer may make one.
    """

    adjacency: Adjacency = Adjacency.ADD_REMOVE
    unit: Unit = Unit.RECORD
    twin_epsilon: float | None = None
    split_separates: bool = False
    negative_failed: bool = False
    learned: bool = True
    over_policy: str | None = None
    voids: tuple[str, ...] = field(default=())
    reason_without_claim: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, the machine-readable reason, and what the evidence refutes if it refutes anything.

    `refutes` is `guarantee` (no mechanism with this claim behaves so) or `mechanism` (the claimed mechanism does not).
    """

    verdict: Verdict
    reason: str | None = None
    refutes: str | None = None


def judge(claim: Claim | None, bound: Bound | None, circumstances: Circumstances) -> Judgement:
    """The verdict on one finding. `bound` is the one at the judging confidence; its delta is the tested delta.

    A broken split or a failing negative control comes first: nothing measured with them is evidence. Then a
    violation, a policy, and only then the question whether the audit could have seen a violation at all.
    """
    here = circumstances
    if here.negative_failed:
        return Judgement(Verdict.ERROR, "negative-control")
    if here.split_separates:
        return Judgement(Verdict.UNDERPOWERED, "split-broken")
    if claim is not None and bound is not None and not here.voids and _comparable(claim, here):
        refuted = refutation(claim, bound)
        if refuted:
            return Judgement(Verdict.VIOLATED, "bound-above-claim", refuted)
    if here.over_policy:
        return Judgement(Verdict.EXCEEDS_POLICY, here.over_policy)
    if claim is None:
        return Judgement(Verdict.NO_CLAIM, here.reason_without_claim)
    if here.voids:
        return Judgement(Verdict.NO_CLAIM, here.voids[0])
    return _power(claim, bound, here)


def refutation(claim: Claim, bound: Bound) -> str | None:
    """What the bound refutes of the claim at the bound's delta: `guarantee`, `mechanism` or nothing.

    Only a bound with a proof decides. An `approx-dp` bound refutes the guarantee; one proved within a family of
    mechanisms refutes only that the claimed mechanism ran, and only if the family contains it: a Gaussian trade-off
    curve is not that of Poisson-subsampled DP-SGD (theory note 1.4), so `gdp` never decides there.
    """
    if bound.validity not in DECIDING or bound.epsilon <= claim.epsilon_at(bound.delta):
        return None
    if bound.null_class == "approx-dp":
        return "guarantee"
    if bound.null_class == "gdp" and claim.mechanism.name == "gaussian":
        return "mechanism"
    if claim.mechanism.name == "dp-sgd" and bound.null_class.startswith("dp-sgd("):
        # Equal to the display precision of the class name; a family with another q or T is another mechanism.
        expected = f"dp-sgd(q={claim.mechanism['sample_rate']:g},T={claim.mechanism['steps']:g})"
        return "mechanism" if bound.null_class == expected else None
    return None


def _comparable(claim: Claim, here: Circumstances) -> bool:
    """A bound of another unit or adjacency neither refutes nor supports the claim."""
    if claim.unit != here.unit:
        raise IncompatibleError(
            f"the attack plays with one {here.unit}, the claim protects one {claim.unit}: use canaries of that unit"
        )
    return claim.adjacency == here.adjacency


def _power(claim: Claim, bound: Bound | None, here: Circumstances) -> Judgement:
    """`consistent` only if this audit would have seen a violation: ceiling and twin both above the claim."""
    if bound is None:
        return Judgement(Verdict.UNDERPOWERED, "design-unknown")
    if claim.adjacency != here.adjacency:
        return Judgement(Verdict.UNDERPOWERED, "adjacency-differs")
    if not here.learned:
        return Judgement(Verdict.UNDERPOWERED, "uninformative")
    if bound.validity not in DECIDING or bound.null_class != "approx-dp":
        return Judgement(Verdict.UNDERPOWERED, "bound-cannot-decide")
    promised = claim.epsilon_at(bound.delta)
    if bound.ceiling <= promised:
        return Judgement(Verdict.UNDERPOWERED, "ceiling-below-claim")
    if here.twin_epsilon is None:
        return Judgement(Verdict.UNDERPOWERED, "no-positive-control")
    if here.twin_epsilon <= promised:
        return Judgement(Verdict.UNDERPOWERED, "twin-below-claim")
    return Judgement(Verdict.CONSISTENT)


REASONS = {
    "negative-control": "the audit certified leakage where there was none, so nothing it measured can be trusted",
    "split-broken": "members and non-members can be told apart without the model, so a high score proves nothing",
    "bound-above-claim": "the certified lower bound lies above the claim",
    "design-unknown": "how membership was decided is unknown, so no bound can be certified",
    "adjacency-differs": "the attack plays another adjacency than the claim's",
    "uninformative": "the model is no better than guessing without it (the most frequent class; for text, token "
    "frequencies and the model before private text): it learned nothing that could leak",
    "bound-cannot-decide": "this bound holds only within a family of mechanisms or is no frequentist bound",
    "ceiling-below-claim": "even a perfect attack on this design could not certify more than the claim",
    "no-positive-control": "there is no unprotected twin to show that this attack finds leakage where it exists",
    "twin-below-claim": "the same attack does not certify more than the claim even on the unprotected twin",
    "preprocessing.not-private": "preprocessing was fitted on private rows outside the mechanism",
    "other-unit": "the claim protects another unit than the one this attack plays with, so it is neither tested nor "
    "supported",
    "observer-not-covered": "the claim does not hold against this observer, who sees more than the mechanism releases",
    "measured-only": "this game measures how much is recovered; it certifies no bound and so tests no claim",
    "step-failed": "a step of the audit failed",
    "tpr-at-fpr": "the true-positive rate at the policy's false-positive rate is above the allowed maximum",
    "max-epsilon": "the certified bound is above the policy's maximum",
}
"""Every machine-readable reason and its meaning in one sentence."""
