from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from leakgauge.attacks.canary.gradient_finding import GradientPlan
from leakgauge.audit.seeds import Seeds
from leakgauge.benchmarks import whitebox

# The r = 200 design on a shorter run: q 0.05, sigma 1.5, T 100, claim 1.25 at delta 1e-5; perfect guessing gives 2.60.
SHORT = replace(whitebox.TRAINER, batch_size=60, nominal_rows=1200, epochs=5, noise_multiplier=1.5)
DATA = whitebox.digits().take(np.arange(200))


def short_run(variant=None, seed: int = 1):
    return whitebox.audit_run(DATA, whitebox.DIRAC, Seeds(seed), variant, SHORT)


def test_a_correct_run_is_consistent_and_its_unprotected_twin_is_not() -> None:
    # A correct run is flagged at 0.999 with probability below 1e-3; the seed is fixed.
    seen = whitebox.audit_trainer(SHORT, DATA, seeds=Seeds(1))
    assert seen["verdict"] == "consistent"
    assert seen["judged"]["epsilon"] <= seen["claim"]["epsilon"] < seen["evidence"]["twin_epsilon"]
    assert seen["bound"]["counts"]["guesses"] == 200


@pytest.mark.parametrize("variant", whitebox.BROKEN.values(), ids=whitebox.BROKEN.keys())
def test_broken_optimizers_are_caught(variant) -> None:
    run = short_run(variant)
    seen = whitebox.finding(run, run)
    assert seen["verdict"] == "violated"
    assert seen["judged"]["epsilon"] > run.claim.epsilon_at(1e-5)


def test_missing_clipping_needs_canaries_above_the_clipping_norm() -> None:
    # Why strength is 10: at strength 1 a run without clipping looks correct.
    weak = replace(whitebox.DIRAC, strength=1.0)
    run = whitebox.audit_run(DATA, weak, Seeds(1), whitebox.no_clipping, SHORT)
    assert GradientPlan().bound(whitebox.guesses(run), 0.999).epsilon <= run.claim.epsilon_at(1e-5)


def test_report_says_what_is_not_met(monkeypatch) -> None:
    # The family bound takes ten seconds and is tested elsewhere.
    monkeypatch.setattr(GradientPlan, "family_bound", lambda self, counts, _, level: self.bound(counts, level))
    claim = short_run().claim
    good = whitebox.Row("correct, dirac", 0, {"llr": 134, "sum": 120, "max": 119}, 0.46, 0.2, 0.72)
    bad = replace(good, one_run=0.1, one_run_judged=5.0)
    broken = whitebox.Row("broken: no noise", 0, {"llr": 200, "sum": 200, "max": 200}, 4.17, 2.6, None)
    text, met = whitebox.report([bad, broken], claim)
    assert not met
    assert "* NO: no correct run above the claim" in text


@pytest.mark.slow
def test_full_design_reaches_the_limit() -> None:
    # 20 seeds at q 0.01, sigma 1, T 1000: the median of v has standard error 1.3; 70 % of the limits is v >= 130.
    rows = []
    for seed in range(20):
        run = whitebox.audit_run(whitebox.digits(), whitebox.DIRAC, Seeds(seed).at("whitebox", "dirac"))
        rows.append(whitebox.row_of("correct, dirac", seed, run, family=True))
    assert sorted(r.one_run for r in rows)[10] >= 0.7 * whitebox.LIMIT_ONE_RUN
    assert sorted(r.family or 0 for r in rows)[10] >= 0.7 * whitebox.LIMIT_FAMILY
    assert max(r.one_run_judged for r in rows) <= 1.828
