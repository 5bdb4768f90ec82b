from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from leakgauge.attacks.membership import Lira, LossThreshold
from leakgauge.attacks.membership.lira import one_sided
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.metrics import auc, membership_metrics
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access

SEEDS = Seeds(1)


def simulated(paired, *, records: int, shadows: int, shift: float = 1.5, hardness: float = 3.0, seed: int = 0):
    """Logits N(record's own level + shift if inside, 1): with many shadows the likelihood ratio's AUC is known."""
    generator = np.random.default_rng(seed)
    level = generator.normal(size=records) * hardness
    inside = paired(generator, shadows, records)
    truth = generator.random(records) < 0.5
    shadow = level + shift * inside + generator.normal(size=(shadows, records))
    target = level + shift * truth + generator.normal(size=records)
    return target, shadow, inside, truth


@pytest.mark.parametrize("variance", ["fixed", "per-example"])
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_scores_equal_a_loop_over_records(evidence_from_logits, mode, variance) -> None:
    generator = np.random.default_rng(3)
    # Unpaired coins, so that counts differ from record to record.
    inside = generator.random((16, 50)) < 0.5
    inside[:2], inside[2:4] = True, False
    shadow = generator.normal(size=(16, 50)) * 2 + inside * generator.random(50)
    target = generator.normal(size=50)
    residuals = {True: [], False: []}
    for i in range(50):
        for side in (True, False):
            values = shadow[inside[:, i] == side, i]
            residuals[side].append((((values - values.mean()) ** 2).sum(), len(values) - 1))
    pooled = {side: sum(s for s, _ in r) / sum(k for _, k in r) for side, r in residuals.items()}
    expected = []
    for i in range(50):
        fitted = {}
        for side in (True, False):
            values = shadow[inside[:, i] == side, i]
            own = values.var(ddof=1) if len(values) > 1 else pooled[side]
            fitted[side] = norm(values.mean(), np.sqrt(pooled[side] if variance == "fixed" else own))
        if mode == "online":
            expected.append(fitted[True].logpdf(target[i]) - fitted[False].logpdf(target[i]))
        else:
            expected.append(fitted[False].logcdf(target[i]) - fitted[False].logsf(target[i]))
    attack = Lira(shadows=16, mode=mode, variance=variance)
    scores = attack.score(evidence_from_logits(target, shadow, inside), seeds=SEEDS)
    assert np.allclose(scores.values, expected, rtol=1e-9, atol=1e-9)


def test_offline_order_is_that_of_the_log_normal_probability_and_never_saturates() -> None:
    z = np.linspace(-30, 30, 2001)
    assert (np.diff(one_sided(z)) > 0).all()
    assert np.array_equal(np.argsort(one_sided(z[500:1400])), np.argsort(norm.logcdf(z[500:1400])))
    assert np.isfinite(one_sided(np.array([-1e6, 1e6]))).all()
    assert (
        norm.logcdf(45.0) == norm.logcdf(50.0) == 0.0 < one_sided(np.array([45.0]))[0] < one_sided(np.array([50.0]))[0]
    )


def test_known_power_is_reached(evidence_from_logits, paired) -> None:
    # AUC of the optimal test is Phi(1.5 / sqrt 2) = 0.856; standard error about 0.006, means from 32 shadows a side
    # cost about 0.006. The loss alone has 0.63 here.
    target, shadow, inside, truth = simulated(paired, records=4000, shadows=64)
    evidence = evidence_from_logits(target, shadow, inside)
    online = auc(Lira().score(evidence, seeds=SEEDS).values, truth)
    offline = auc(Lira(mode="offline").score(evidence, seeds=SEEDS).values, truth)
    loss = auc(LossThreshold().score(evidence, seeds=SEEDS).values, truth)
    assert 0.825 < online < 0.88
    assert 0.825 < offline < 0.88
    assert loss < 0.68


def test_fixed_variance_beats_per_example_with_few_shadows(evidence_from_logits, paired) -> None:
    target, shadow, inside, truth = simulated(paired, records=4000, shadows=8)
    evidence = evidence_from_logits(target, shadow, inside)
    fixed, own = (
        membership_metrics(Lira(shadows=8, variance=v).score(evidence, seeds=SEEDS).values, truth)
        for v in ("fixed", "per-example")
    )
    assert fixed.auc.low > own.auc.value
    assert fixed.tpr_at_fpr["0.01"].value > own.tpr_at_fpr["0.01"].value


def test_one_sided_beats_two_sided_offline(evidence_from_logits, paired) -> None:
    target, shadow, inside, truth = simulated(paired, records=3000, shadows=16)
    ours = auc(
        Lira(shadows=16, mode="offline").score(evidence_from_logits(target, shadow, inside), seeds=SEEDS).values, truth
    )
    out = np.where(inside, np.nan, shadow)
    two_sided = auc(np.abs(target - np.nanmean(out, axis=0)), truth)
    assert ours > two_sided + 0.1


def test_no_leakage_gives_chance(evidence_from_logits, paired) -> None:
    # False-failure rate: 4 standard errors of 0.0065 each, 1e-4.
    target, shadow, inside, _ = simulated(paired, records=8000, shadows=16)
    unrelated = np.random.default_rng(99).random(8000) < 0.5
    for mode in ("online", "offline"):
        scores = Lira(shadows=16, mode=mode).score(evidence_from_logits(target * 0, shadow, inside), seeds=SEEDS)
        assert abs(auc(scores.values, unrelated) - 0.5) < 0.026


def test_records_with_one_side_only_are_imputed_by_the_average_shift(evidence_from_logits) -> None:
    generator = np.random.default_rng(5)
    inside = np.tile([True, False], 4)[:, None] & np.ones((8, 30), dtype=bool)
    inside[:, 0], inside[:, 1] = False, True
    shadow = np.where(inside, 2.0, 0.0) + generator.normal(size=(8, 30)) * 0.5
    target = np.concatenate([[2.0, 0.0], generator.normal(size=28)])
    scores = Lira(shadows=8).score(evidence_from_logits(target, shadow, inside), seeds=SEEDS).values
    assert np.isfinite(scores).all()
    assert scores[0] > 0 > scores[1]
    offline = Lira(shadows=8, mode="offline").score(evidence_from_logits(target, shadow, inside), seeds=SEEDS).values
    assert offline[0] > 0


def test_shadows_that_never_saw_a_record_serve_offline_only(evidence_from_logits) -> None:
    generator = np.random.default_rng(6)
    evidence = evidence_from_logits(
        generator.normal(size=20), generator.normal(size=(4, 20)), np.zeros((4, 20), dtype=bool)
    )
    assert np.isfinite(Lira(shadows=4, mode="offline").score(evidence, seeds=SEEDS).values).all()
    with pytest.raises(IncompatibleError, match="set mode to offline"):
        Lira(shadows=4).score(evidence, seeds=SEEDS)


def test_shadows_that_saw_everything_are_refused(evidence_from_logits) -> None:
    evidence = evidence_from_logits(np.zeros(5), np.zeros((4, 5)), np.ones((4, 5), dtype=bool))
    for mode in ("online", "offline"):
        with pytest.raises(IncompatibleError, match="different parts"):
            Lira(shadows=4, mode=mode).score(evidence, seeds=SEEDS)


def test_only_the_first_shadows_are_read(evidence_from_logits, paired) -> None:
    target, shadow, inside, _ = simulated(paired, records=50, shadows=16)
    more = evidence_from_logits(target, shadow, inside)
    fewer = evidence_from_logits(target, shadow[:8], inside[:8])
    assert np.array_equal(
        Lira(shadows=8).score(more, seeds=SEEDS).values, Lira(shadows=8).score(fewer, seeds=SEEDS).values
    )
    with pytest.raises(IncompatibleError, match="needs 16 shadow models, the evidence has 8"):
        Lira(shadows=16).score(fewer, seeds=SEEDS)


def test_agreeing_shadows_give_finite_scores(evidence_from_logits) -> None:
    inside = np.array([[True] * 3, [False] * 3] * 2)
    evidence = evidence_from_logits(np.array([0.0, 1.0, 2.0]), np.ones((4, 3)), inside)
    for variance in ("fixed", "per-example"):
        for mode in ("online", "offline"):
            values = Lira(shadows=4, mode=mode, variance=variance).score(evidence, seeds=SEEDS).values
            assert np.isfinite(values).all()


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"shadows": 1}, "shadows must be an integer >= 2, got 1"),
        ({"shadows": 64.0}, "got 64.0"),
        ({"shadows": True}, "got True"),
        ({"mode": "both"}, "mode must be one of online, offline, got 'both'"),
        ({"variance": "own"}, "variance must be one of fixed, per-example"),
        ({"variance": "per-example", "shadows": 2}, ">= 4"),
    ],
)
def test_bad_parameters_are_named(parameters, says) -> None:
    with pytest.raises(ConfigError, match=says):
        Lira(**parameters)


def test_needs() -> None:
    needs = Lira(shadows=32).needs
    assert (needs.access, needs.shadows, needs.population) == (Access.LOGITS, 32, False)
    assert LossThreshold().needs.access == Access.LOSS
