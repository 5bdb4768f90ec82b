from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from leakgauge.attacks.membership import Rmia
from leakgauge.attacks.membership.rmia import SCALINGS, average_probability, population_count, refined, tuned_scaling
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.metrics import auc, membership_metrics
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, Evidence

SEEDS = Seeds(1)


def dense(ratio: np.ndarray, population: np.ndarray, gamma: float) -> np.ndarray:
    """The definition, with its records x population matrix."""
    return (ratio[:, None] / population[None, :] >= gamma).mean(axis=1)


def simulated(paired, *, records=600, population=300, references=4, shift=2.0, seed=0):
    generator = np.random.default_rng(seed)
    level, far = generator.normal(size=records) * 2, generator.normal(size=population) * 2
    inside, truth = paired(generator, references, records), generator.random(records) < 0.5
    noise = generator.normal(size=(references + 1, records + population)) * 0.7
    target = level + shift * truth + noise[0, :records]
    shadow = level + shift * inside + noise[1:, :records]
    return (target, shadow, inside, far + noise[0, records:], far + noise[1:, records:]), truth


@pytest.mark.parametrize("gamma", [1.0, 1.5, 2.0])
def test_counts_equal_the_dense_definition_ties_included(gamma) -> None:
    generator = np.random.default_rng(1)
    # Powers of two times few values: exact ties at every gamma that is a power of two, and plenty of equal ratios.
    ratio = generator.choice([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0], size=400)
    population = generator.choice([0.25, 0.5, 0.75, 1.0, 1.5], size=130)
    counted = population_count(ratio, population, gamma) / 130
    assert np.abs(counted - dense(ratio, population, gamma)).max() < 1e-12


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize("scaling", [0.0, 0.3, 1.0])
def test_score_equals_the_paper_s_formula_written_as_loops(evidence_from_logits, paired, mode, scaling) -> None:
    arrays, _ = simulated(paired, records=60, population=40)
    target, shadow, inside, z_target, z_shadow = arrays
    sigmoid = lambda phi: 1 / (1 + np.exp(-phi))  # noqa: E731
    ratio_z = []
    for z in range(40):
        out = np.mean([sigmoid(z_shadow[j, z]) for j in range(4)])
        ratio_z.append(sigmoid(z_target[z]) / (0.5 * ((1 + scaling) * out + (1 - scaling))))
    expected = []
    for x in range(60):
        with_x = np.mean([sigmoid(shadow[j, x]) for j in range(4) if inside[j, x]])
        without = np.mean([sigmoid(shadow[j, x]) for j in range(4) if not inside[j, x]])
        usual = 0.5 * (with_x + without) if mode == "online" else 0.5 * ((1 + scaling) * without + (1 - scaling))
        expected.append(np.mean([sigmoid(target[x]) / usual / r >= 2 for r in ratio_z]))
    attack = Rmia(mode=mode, offline_scaling=scaling, gamma=2.0)
    assert np.abs(attack.exact(evidence_from_logits(*arrays)) - expected).max() < 1e-12


def test_final_score_is_a_strict_refinement(evidence_from_logits, paired) -> None:
    arrays, _ = simulated(paired, population=25)
    evidence, attack = evidence_from_logits(*arrays), Rmia()
    exact, final = attack.exact(evidence), attack.score(evidence, seeds=SEEDS).values
    ratio, _ = attack.ratios(evidence)
    assert ((final > 0) & (final < 1)).all()
    higher = exact[:, None] > exact[None, :]
    assert (final[:, None] > final[None, :])[higher].all()
    tied = (exact[:, None] == exact[None, :]) & (ratio[:, None] > ratio[None, :])
    assert tied.sum() > 1000
    assert (final[:, None] > final[None, :])[tied].all()


def test_refinement_keeps_extreme_ratios_apart() -> None:
    ratio = np.array([1e-44, 1e-40, 1e-3, 1.0, 1e3, 1e40, 1e44])
    values = refined(np.zeros(7, dtype=np.int64), ratio, 10_000)
    assert (np.diff(values) > 0).all()
    assert 0 < values[0] < values[-1] < 1 / 10_001


def test_ties_at_the_top_no_longer_hide_leakage(evidence_from_logits, paired) -> None:
    arrays, truth = simulated(paired, records=2000, population=12, shift=1.0)
    evidence = evidence_from_logits(*arrays)
    attack = Rmia(gamma=1.0)
    tied = membership_metrics(attack.exact(evidence), truth).tpr_at_fpr["0.01"]
    final = membership_metrics(attack.score(evidence, seeds=SEEDS).values, truth).tpr_at_fpr["0.01"]
    assert tied.attainable == 0.0
    assert tied.value > 0.01
    assert final.value > 0.03


def test_power_and_chance(evidence_from_logits, paired) -> None:
    # Standard error of an AUC near 1/2 with 4000 records: 0.009; four of them.
    arrays, truth = simulated(paired, records=4000)
    evidence = evidence_from_logits(*arrays)
    unrelated = np.random.default_rng(7).random(4000) < 0.5
    for attack in (Rmia(), Rmia(mode="offline"), Rmia(mode="offline", offline_scaling="tuned")):
        values = attack.score(evidence, seeds=SEEDS).values
        assert auc(values, truth) > 0.75
        assert abs(auc(values, unrelated) - 0.5) < 0.037


def test_tuning_equals_a_loop_that_leaves_the_complement_out(paired) -> None:
    generator = np.random.default_rng(8)
    inside = paired(generator, 6, 80)
    probability = generator.random((6, 80)) * 0.3 + 0.6 * inside
    means = []
    for scaling in SCALINGS:
        total = []
        for j in range(6):
            others = [k for k in range(6) if k // 2 != j // 2]
            assert all(not (inside[k] == ~inside[j]).all() for k in others)
            ratio, truth = [], []
            for x in range(80):
                out = [probability[k, x] for k in others if not inside[k, x]]
                ratio.append(probability[j, x] / (0.5 * ((1 + scaling) * np.mean(out) + 1 - scaling)))
                truth.append(inside[j, x])
            total.append(auc(ratio, truth))
        means.append(np.mean(total))
    assert tuned_scaling(probability, inside) == SCALINGS[int(np.argmax(means))]


def test_tuning_prefers_small_scaling_where_members_are_fitted_perfectly(paired) -> None:
    # Every member has probability 1 whatever its difficulty: p_in = 1 is exactly a = 0. Difficult non-members at 1e-3
    # make p / p_out useless, as their chance ratios exceed those of easy members.
    generator = np.random.default_rng(9)
    inside = paired(generator, 8, 2000)
    difficulty = generator.random(2000) * 0.9 + 0.001
    outside = difficulty * np.exp(generator.normal(size=(8, 2000)))
    probability = np.where(inside, 1.0, np.minimum(outside, 0.99))
    assert tuned_scaling(probability, inside) < 0.6


def test_the_target_plays_no_part_in_tuning(evidence_from_logits, paired) -> None:
    arrays, _ = simulated(paired, references=8)
    attack = Rmia(references=8, mode="offline", offline_scaling="tuned")
    other = (-arrays[0], *arrays[1:3], -arrays[3], arrays[4])
    population = [attack.ratios(evidence_from_logits(*a))[1] for a in (arrays, other)]
    usual = [1 / (1 + np.exp(-z)) / r for z, r in zip((arrays[3], -arrays[3]), population, strict=True)]
    assert np.allclose(*usual)


def test_records_without_one_side_have_an_explicit_average() -> None:
    probability = np.array([[0.2, 0.4, 0.6], [0.4, 0.8, 0.1]])
    inside = np.array([[False, True, True], [False, True, False]])
    online = average_probability(probability, inside, scaling=0.5, online=True)
    assert online.tolist() == pytest.approx([0.5 * (1.5 * 0.3 + 0.5), 0.6, 0.35])
    offline = average_probability(probability, inside, scaling=0.5, online=False)
    assert offline.tolist() == pytest.approx([0.475, 0.6, 0.5 * (1.5 * 0.1 + 0.5)])


def test_missing_population_and_references_are_refused(evidence_from_logits, paired) -> None:
    arrays, _ = simulated(paired)
    with pytest.raises(ConfigError, match="population records, got none"):
        Rmia().score(evidence_from_logits(*arrays[:3]), seeds=SEEDS)
    with pytest.raises(IncompatibleError, match="set references to at most 4"):
        Rmia(references=6).score(evidence_from_logits(*arrays), seeds=SEEDS)
    complements = np.array([[True, False], [False, True]])
    with pytest.raises(IncompatibleError, match="offline_scaling"):
        tuned_scaling(np.full((2, 2), 0.5), complements)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"references": 0}, "references must be an integer >= 2, got 0"),
        ({"gamma": 0.5}, "gamma must be a number at least 1, got 0.5"),
        ({"gamma": float("nan")}, "gamma"),
        ({"offline_scaling": 1.5}, r"offline_scaling must be a number in \[0, 1\], got 1.5"),
        ({"offline_scaling": "best"}, "tuned"),
        ({"offline_scaling": "tuned", "references": 2}, ">= 4"),
        ({"mode": "on"}, "mode"),
    ],
)
def test_bad_parameters_are_named(parameters, says) -> None:
    with pytest.raises(ConfigError, match=says):
        Rmia(**parameters)


def test_needs() -> None:
    needs = Rmia(references=8).needs
    assert (needs.access, needs.shadows, needs.population) == (Access.LOSS, 8, True)


def test_large_audits_take_little_memory_and_are_exact() -> None:
    generator = np.random.default_rng(0)
    n, z, m = 60_000, 10_000, 8
    one = np.log(generator.dirichlet(np.ones(10), size=n)).astype(np.float32)
    half = generator.random((m // 2, n)) < 0.5
    evidence = Evidence(
        generator.integers(0, 10, n),
        tuple(map(str, range(n))),
        one,
        np.stack([np.roll(one, j, axis=0) for j in range(m)]),
        np.stack([half, ~half], axis=1).reshape(m, n),
        generator.integers(0, 10, z),
        one[:z],
        np.stack([np.roll(one[:z], j, axis=0) for j in range(m)]),
    )
    attack = Rmia(references=m, mode="offline", offline_scaling="tuned", gamma=2.0)
    attack.score(evidence, seeds=SEEDS)
    tracemalloc.start()
    exact = attack.exact(evidence)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    ratio, population = attack.ratios(evidence)
    some = generator.choice(n, 500, replace=False)
    assert np.abs(exact[some] - dense(ratio[some], population, 2.0)).max() < 1e-12


def test_tiny_probabilities_keep_their_precision():
    # (1 + a) p + 1 - a, summed from the left, loses p below 1e-16 at a = 1 and gave a division by zero on MNIST.
    tiny = np.full((2, 1), 1e-40)
    inside = np.array([[True], [False]])
    assert average_probability(tiny, inside, scaling=1.0, online=False)[0] == pytest.approx(1e-40, rel=1e-12)
    logs = np.log(np.array([[1e-30, 1 - 1e-30]] * 3, dtype=np.float64))
    evidence = Evidence(
        labels=np.zeros(3, np.int64),
        records=("a", "b", "c"),
        target=logs,
        shadows=np.stack([logs, logs]),
        shadow_inside=np.array([[True, False, True], [False, True, False]]),
        population_labels=np.zeros(3, np.int64),
        population_target=logs,
        population_shadows=np.stack([logs, logs]),
    )
    record_ratios, population_ratios = Rmia(references=2).ratios(evidence)
    assert record_ratios == pytest.approx(np.ones(3))
    assert population_ratios == pytest.approx(np.ones(3))
