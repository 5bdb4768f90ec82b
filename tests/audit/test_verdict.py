"""The rules of evidence, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leakgauge.audit.errors import IncompatibleError
from leakgauge.audit.types import (
    Adjacency,
    Bound,
    Claim,
    CurvePoint,
    Mechanism,
    Selection,
    Unit,
    Validity,
    Verdict,
)
from leakgauge.audit.verdict import REASONS, Circumstances, judge

CLAIM = Claim(
    3.0, 1e-5, mechanism=Mechanism("dp-sgd", (("sample_rate", 0.1), ("steps", 300))), curve=(CurvePoint(1e-6, 3.5),)
)
BOUND = Bound(1.0, 1e-6, 0.999, "one-run", "approx-dp", Validity.FREQUENTIST, Selection(), {}, 4.2, 0.001)
SOUND = Circumstances(twin_epsilon=3.9)


def verdict(claim=CLAIM, bound=BOUND, here=SOUND):
    return judge(claim, bound, here)


def test_consistent_needs_ceiling_and_twin_above_the_claim_at_the_tested_delta():
    assert verdict().verdict is Verdict.CONSISTENT
    # 3.2 lies above the headline epsilon, but the claim at the tested delta is 3.5.
    assert verdict(bound=replace(BOUND, ceiling=3.2)).reason == "ceiling-below-claim"
    assert verdict(here=replace(SOUND, twin_epsilon=3.2)).reason == "twin-below-claim"
    assert verdict(here=replace(SOUND, twin_epsilon=None)).reason == "no-positive-control"
    assert verdict(here=replace(SOUND, learned=False)).reason == "uninformative"


def test_violation_is_judged_at_the_tested_delta():
    assert verdict(bound=replace(BOUND, epsilon=3.4)).verdict is Verdict.CONSISTENT
    assert verdict(bound=replace(BOUND, epsilon=3.6)).verdict is Verdict.VIOLATED
    assert verdict(bound=replace(BOUND, epsilon=3.6)).refutes == "guarantee"


@pytest.mark.parametrize("validity", [Validity.BAYESIAN, Validity.ESTIMATE])
def test_bayesian_bounds_and_estimates_never_decide(validity):
    found = verdict(bound=replace(BOUND, epsilon=9.0, validity=validity))
    assert found.verdict is Verdict.UNDERPOWERED
    assert found.reason == "bound-cannot-decide"


def test_a_family_bound_refutes_only_its_own_mechanism():
    family = replace(BOUND, epsilon=9.0, null_class="dp-sgd(q=0.1,T=300)")
    assert verdict(bound=family).refutes == "mechanism"
    assert verdict(bound=replace(family, null_class="dp-sgd(q=0.1,T=999)")).verdict is Verdict.UNDERPOWERED


def test_gdp_never_decides_for_poisson_dp_sgd_but_does_for_a_gaussian_mechanism():
    gdp = replace(BOUND, epsilon=9.0, null_class="gdp")
    assert verdict(bound=gdp).verdict is Verdict.UNDERPOWERED
    assert verdict(replace(CLAIM, mechanism=Mechanism("gaussian")), gdp).refutes == "mechanism"


def test_broken_split_and_failed_negative_control_come_before_a_violation():
    loud = replace(BOUND, epsilon=9.0)
    assert verdict(bound=loud, here=replace(SOUND, split_separates=True)).reason == "split-broken"
    assert verdict(bound=loud, here=replace(SOUND, negative_failed=True)).verdict is Verdict.ERROR


def test_a_void_claim_is_no_claim():
    found = verdict(bound=replace(BOUND, epsilon=9.0), here=replace(SOUND, voids=("preprocessing.not-private",)))
    assert found.verdict is Verdict.NO_CLAIM
    assert found.reason == "preprocessing.not-private"


def test_another_adjacency_cannot_refute_and_another_unit_cannot_even_be_compared():
    replace_one = replace(CLAIM, adjacency=Adjacency.REPLACE_ONE)
    assert verdict(replace_one, replace(BOUND, epsilon=9.0)).reason == "adjacency-differs"
    with pytest.raises(IncompatibleError, match="one record"):
        verdict(replace(CLAIM, unit=Unit.CLIENT))


def test_policy_and_missing_claim():
    assert verdict(None).verdict is Verdict.NO_CLAIM
    assert verdict(None, here=replace(SOUND, over_policy="tpr-at-fpr")).verdict is Verdict.EXCEEDS_POLICY
    assert verdict(bound=None).reason == "design-unknown"


def test_worst_verdict_order():
    assert Verdict.worst([Verdict.CONSISTENT, Verdict.ERROR, Verdict.UNDERPOWERED]) is Verdict.ERROR
    assert Verdict.worst([Verdict.ERROR, Verdict.EXCEEDS_POLICY]) is Verdict.EXCEEDS_POLICY
    assert Verdict.worst([]) is Verdict.UNDERPOWERED


def test_a_claim_promises_nothing_below_its_smallest_known_delta():
    with pytest.raises(IncompatibleError, match="promises nothing"):
        CLAIM.epsilon_at(1e-7)
    assert CLAIM.epsilon_at(1e-6) == 3.5
    assert CLAIM.epsilon_at(5e-6) == 3.5
    assert CLAIM.epsilon_at(1e-3) == 3.0


def test_every_reason_used_is_explained():
    import ast
    import inspect

    from leakgauge.audit import verdict as module

    calls = [n for n in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(n, ast.Call)]
    made = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "Judgement" and len(c.args) > 1]
    used = {c.args[1].value for c in made if isinstance(c.args[1], ast.Constant)}
    assert len(used) >= 8
    assert used <= set(REASONS)
