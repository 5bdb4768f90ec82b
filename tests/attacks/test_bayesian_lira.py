from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from leakgauge.attacks.membership import Lira, Rmia
from leakgauge.attacks.membership.hierarchical import (
    Gaps,
    Predictive,
    VariancePrior,
    gap_trend,
    halves,
    heterogeneity,
    merged,
    predictives,
)
from leakgauge.attacks.membership.moments import Moments, logit_moments
from leakgauge.audit.metrics import SplitScores, auc, operating_point
from leakgauge.audit.seeds import Seeds
from leakgauge.benchmarks.peers.signals import signals_fixture

SEEDS = Seeds(1)


def world(paired, *, records: int, shadows: int, seed: int = 0, spread: float = 0.4):
    """Logits whose gap falls with the level, scatters by `spread` of itself, and whose variances scatter."""
    generator = np.random.default_rng(seed)
    level = generator.normal(size=records) * 2
    expected = np.log1p(np.exp(1 - level))
    gap = expected * (1 + spread * generator.normal(size=records))
    scale = np.sqrt(0.6 * 8 / generator.chisquare(8, size=records))
    inside = paired(generator, shadows, records)
    truth = generator.random(records) < 0.5

    def draw(member):
        return level + gap * member + scale * generator.normal(size=member.shape)

    return draw(truth), draw(inside), inside, truth, (level, gap, scale)


def test_predictive_is_students_law() -> None:
    generator = np.random.default_rng(1)
    location, scale, freedom, x = (generator.random((4, 30)) * np.array([[2], [3], [20], [8]])) + 0.1
    law = Predictive(location, scale, freedom)
    assert np.allclose(law.log_density(x), stats.t.logpdf(x, freedom, location, scale))


def test_normal_deviate_has_students_tail_and_never_underflows() -> None:
    # Wallace's approximation: within 0.02 of the exact deviate from 5 degrees of freedom on.
    z = np.linspace(-6, 6, 61)
    for freedom in (5.0, 12.0, 1e4):
        law = Predictive(np.zeros(61), np.ones(61), np.full(61, freedom))
        exact = np.where(z < 0, stats.norm.ppf(stats.t.cdf(z, freedom)), stats.norm.isf(stats.t.sf(z, freedom)))
        assert np.abs(law.normal_deviate(z) - exact).max() < 0.03
    far = Predictive(np.zeros(2), np.ones(2), np.full(2, 5.0)).normal_deviate(np.array([1e150, 1e151]))
    assert np.isfinite(far).all()
    assert far[0] < far[1]


def test_the_variance_prior_is_recovered() -> None:
    # Standard errors over 20,000 records: about 0.2 in the freedom, 0.005 in the variance; limits at five of them.
    generator = np.random.default_rng(2)
    true = 0.7 * 6 / generator.chisquare(6, size=20_000)
    squares = true * generator.chisquare(3, size=20_000)
    prior = VariancePrior.fit(Moments(np.full(20_000, 4), np.zeros(20_000), squares))
    assert prior is not None
    assert prior.freedom == pytest.approx(6, abs=1.0)
    assert prior.variance == pytest.approx(0.7, abs=0.025)


def test_a_common_variance_gives_a_stiff_prior_and_no_pair_none() -> None:
    generator = np.random.default_rng(3)
    squares = 0.5 * generator.chisquare(3, size=5000)
    prior = VariancePrior.fit(Moments(np.full(5000, 4), np.zeros(5000), squares))
    assert prior is not None
    assert prior.freedom > 50
    assert VariancePrior.fit(Moments(np.ones(5, dtype=int), np.zeros(5), np.zeros(5))) is None


def test_posteriors_equal_bayes_rule_on_a_grid(evidence_from_logits, paired) -> None:
    """Location of the out law = posterior mean of m under the stated model, by brute force for a few records."""
    target, shadow, inside, _, _ = world(paired, records=300, shadows=8)
    evidence = evidence_from_logits(target, shadow, inside)
    law_in, law_out = predictives(evidence, 8)
    first, second = halves(evidence, 8)
    side_in, side_out = merged(first.inside, second.inside), merged(first.outside, second.outside)
    seen = side_in.mean - side_out.mean
    expected = gap_trend((side_in.mean + side_out.mean) / 2, seen)
    v = {}
    for name, side in (("in", side_in), ("out", side_out)):
        prior = VariancePrior.fit(side)
        assert prior is not None
        v[name] = (prior.freedom * prior.variance + side.squares) / (prior.freedom + side.count - 1)
    c = heterogeneity(first.inside.mean - first.outside.mean, second.inside.mean - second.outside.mean, expected)
    noise = v["in"] / side_in.count + v["out"] / side_out.count
    noise = noise * max((np.mean((seen - expected) ** 2) - np.mean(c * expected**2)) / noise.mean(), 0.2)
    for i in (0, 7, 100):
        g = np.linspace(expected[i] - 8, expected[i] + 8, 4001)
        weight = stats.norm.pdf(g, expected[i], np.sqrt(c) * expected[i]) * stats.norm.pdf(
            seen[i], g, np.sqrt(noise[i])
        )
        gap = (g * weight).sum() / weight.sum()
        m = np.linspace(-15, 15, 60001)
        like = stats.norm.logpdf(side_out.mean[i], m, np.sqrt(v["out"][i] / side_out.count[i]))
        like = like + stats.norm.logpdf(side_in.mean[i] - gap, m, np.sqrt(v["in"][i] / side_in.count[i]))
        weight = np.exp(like - like.max())
        mean = (m * weight).sum() / weight.sum()
        assert law_out.location[i] == pytest.approx(mean, abs=1e-3)
        assert law_in.location[i] == pytest.approx(mean + gap, abs=2e-3)


def test_halves_together_are_the_whole(evidence_from_logits) -> None:
    generator = np.random.default_rng(4)
    inside = generator.random((10, 40)) < 0.5
    inside[:, 0], inside[:, 1], inside[:6, 2] = True, False, True
    evidence = evidence_from_logits(generator.normal(size=40), generator.normal(size=(10, 40)), inside)
    first, second = halves(evidence, 10)
    whole = logit_moments(evidence, 10)
    for side in ("inside", "outside"):
        both, all_ = merged(getattr(first, side), getattr(second, side)), getattr(whole, side)
        assert np.array_equal(both.count, all_.count)
        assert np.allclose(both.mean, all_.mean)
        assert np.allclose(both.squares, all_.squares)


def test_true_differences_between_gaps_are_told_from_noise(evidence_from_logits, paired) -> None:
    # c estimates spread^2; standard error over 4000 records and 32 shadows about 0.01.
    for spread in (0.0, 0.5):
        _, shadow, inside, _, (level, _, _) = world(paired, records=4000, shadows=32, spread=spread)
        first, second = halves(evidence_from_logits(np.zeros(4000), shadow, inside), 32)
        gaps = [side.inside.mean - side.outside.mean for side in (first, second)]
        c = heterogeneity(gaps[0], gaps[1], np.log1p(np.exp(1 - level)))
        assert c == pytest.approx(spread**2, abs=0.05)
    assert heterogeneity(np.array([np.nan, 1.0]), np.array([1.0, np.nan]), np.ones(2)) == 0.0


def test_gap_posterior_without_a_gap_is_the_prior() -> None:
    gaps = Gaps(np.array([1.0, 2.0]), np.array([0.5, 0.5]), np.array([0.5, 0.1]))
    mean, variance = gaps.posterior(np.array([3.0, np.nan]))
    assert mean.tolist() == [2.0, 2.0]
    assert variance.tolist() == [0.25, 0.5]


@pytest.mark.parametrize("shadows", [2, 4, 8])
def test_few_shadows_come_near_the_best_test(evidence_from_logits, paired, shadows) -> None:
    # 6000 records: standard error of an AUC 0.007, of differences on the same records less.
    target, shadow, inside, truth, (level, gap, scale) = world(paired, records=6000, shadows=shadows)
    evidence = evidence_from_logits(target, shadow, inside)
    best = auc(stats.norm.logpdf(target, level + gap, scale) - stats.norm.logpdf(target, level, scale), truth)
    bayesian = auc(Lira(shadows=shadows, variance="bayesian").score(evidence, seeds=SEEDS).values, truth)
    fixed = auc(Lira(shadows=shadows).score(evidence, seeds=SEEDS).values, truth)
    assert fixed + 0.04 / shadows < bayesian < best + 0.01


def test_one_sided_records_and_extremes_are_scored(evidence_from_logits, paired) -> None:
    target, shadow, inside, _, _ = world(paired, records=200, shadows=8)
    inside[:, 0], inside[:, 1] = True, False
    shadow[:, 2] = shadow[0, 2]
    target[3], shadow[0, 3] = 1e6, -1e6
    evidence = evidence_from_logits(target, shadow, inside)
    for mode in ("online", "offline"):
        assert np.isfinite(Lira(shadows=8, variance="bayesian", mode=mode).score(evidence, seeds=SEEDS).values).all()


def test_a_null_attack_stays_at_chance(evidence_from_logits, paired) -> None:
    # Membership changes nothing: AUC 0.5 within four standard errors (0.019 at 4000 records).
    generator = np.random.default_rng(5)
    level = generator.normal(size=4000) * 2
    inside = paired(generator, 8, 4000)
    shadow, target = level + generator.normal(size=(8, 4000)), level + generator.normal(size=4000)
    evidence = evidence_from_logits(target, shadow, inside)
    truth = generator.random(4000) < 0.5
    assert auc(Lira(shadows=8, variance="bayesian").score(evidence, seeds=SEEDS).values, truth) == pytest.approx(
        0.5, abs=0.037
    )


@pytest.fixture(scope="module")
def digits():
    """8 targets and 16 shadows on digits with 20 % label noise, as in `bench peers`: 24 models in about two seconds."""
    fixture = signals_fixture(seeds=Seeds(77).at("orderings"), targets=8, shadows=16)
    return fixture, [fixture.evidence(t) for t in range(8)]


def measured(digits, attack) -> np.ndarray:
    """AUC and TPR at 1 % FPR of every target: (2, targets)."""
    fixture, evidence = digits
    out = []
    for t, seen in enumerate(evidence):
        scores = attack.score(seen, seeds=SEEDS).values
        split = SplitScores.of(scores, fixture.inside[t])
        out.append((auc(scores, fixture.inside[t]), operating_point(split, 0.01).value))
    return np.array(out).T


@pytest.mark.parametrize("shadows", [4, 8])
def test_bayesian_beats_fixed_and_per_example_variance_on_digits(digits, shadows) -> None:
    # Paired differences over 8 targets; on 36 other targets they were 8 standard errors or more in AUC.
    bayesian = measured(digits, Lira(shadows=shadows, variance="bayesian"))
    for variance in ("fixed", "per-example"):
        difference = bayesian - measured(digits, Lira(shadows=shadows, variance=variance))
        low = difference.mean(axis=1) - stats.t.ppf(0.975, 7) * difference.std(axis=1, ddof=1) / np.sqrt(8)
        assert low[0] > 0, "AUC"
        assert low[1] > -0.005, "TPR at 1 % FPR"
        assert difference[1].mean() > 0, "TPR at 1 % FPR"


@pytest.mark.parametrize("shadows", [4, 8, 16])
def test_pooled_variance_beats_per_example_with_few_shadows(digits, shadows) -> None:
    gain = measured(digits, Lira(shadows=shadows)) - measured(digits, Lira(shadows=shadows, variance="per-example"))
    assert (gain.mean(axis=1) > 0).all()


def test_one_sided_offline_far_above_two_sided(digits) -> None:
    fixture, evidence = digits
    one = measured(digits, Lira(shadows=16, mode="offline"))[0].mean()
    two = []
    for t, seen in enumerate(evidence):
        side = logit_moments(seen, 16).outside
        z = (logit_of(seen) - side.mean) / np.sqrt(side.pooled_variance())
        two.append(auc(z**2, fixture.inside[t]))  # minus the log-density of the out law
    assert one > np.mean(two) + 0.08


def test_rmia_with_one_reference_beats_offline_lira_with_as_few(digits) -> None:
    rmia = measured(digits, Rmia(references=2))
    for shadows in (2, 4):
        assert (rmia.mean(axis=1) > measured(digits, Lira(shadows=shadows, mode="offline")).mean(axis=1) + 0.02).all()


def logit_of(evidence):
    from leakgauge.attacks.membership.signals import logit

    return logit(evidence.target, evidence.labels)
