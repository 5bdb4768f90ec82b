from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax

from leakgauge.attacks.membership import (
    Confidence,
    DifficultyCalibration,
    Entropy,
    Lira,
    LossThreshold,
    MetaAttack,
    ModifiedEntropy,
    PopulationAttack,
    ShadowClassifier,
)
from leakgauge.attacks.membership.meta import BASES
from leakgauge.attacks.membership.signals import SMALLEST
from leakgauge.attacks.membership.views import discriminant, projected, view_logits
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.metrics import auc
from leakgauge.audit.registry import ATTACKS
from leakgauge.audit.restaging import opponents_of
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Answers, Evidence

SEEDS = Seeds(3)


def leaky(records: int = 400, shadows: int = 8, classes: int = 4, gain: float = 1.5, seed: int = 0, views: int = 1):
    """Evidence of models that fit their members better, and the truth; with `views`, noisy views of every record."""
    generator = np.random.default_rng(seed)
    inside = np.empty((shadows + 1, records), dtype=bool)
    inside[0] = generator.random(records) < 0.5
    inside[1::2] = generator.random((shadows // 2, records)) < 0.5
    inside[2::2] = ~inside[1::2]
    labels, public_labels = generator.integers(0, classes, records), generator.integers(0, classes, 300)
    ease = generator.normal(size=records) * 2
    logits = generator.normal(size=(shadows + 1, records, classes))
    logits[:, np.arange(records), labels] += ease + gain * inside
    public = generator.normal(size=(shadows + 1, 300, classes))
    public[:, np.arange(300), public_labels] += generator.normal(size=300) * 2
    seen, unseen = log_softmax(logits, axis=2), log_softmax(public, axis=2)
    noisy = logits[:, :, None] + generator.normal(size=(shadows + 1, records, views, classes))
    answers = log_softmax(noisy, axis=3)
    none = np.zeros(0)
    evidence = Evidence(
        labels,
        tuple(map(str, range(records))),
        seen[0],
        seen[1:],
        inside[1:],
        public_labels,
        unseen[0],
        unseen[1:],
        answers={"augmented": Answers(answers[0], answers[1:], none, none)},
    )
    return evidence, inside[0]


ALL = [
    Confidence(),
    Entropy(),
    ModifiedEntropy(),
    PopulationAttack(),
    DifficultyCalibration(shadows=8),
    ShadowClassifier(shadows=8),
    MetaAttack(shadows=8),
    Lira(shadows=8, variance="global"),
]


@pytest.mark.parametrize("attack", ALL, ids=lambda a: a.name)
def test_scores_follow_the_records_and_repeat(attack) -> None:
    evidence, _ = leaky()
    first = attack.score(evidence, seeds=SEEDS)
    assert first.records == evidence.records
    assert np.isfinite(first.values).all()
    assert np.array_equal(first.values, attack.score(evidence, seeds=SEEDS).values)
    assert type(ATTACKS.load(attack.name)()) is type(attack)


@pytest.mark.parametrize("attack", ALL, ids=lambda a: a.name)
def test_leakage_is_found_and_none_invented(attack) -> None:
    # 1200 records: standard error of an AUC 0.017; four of them.
    evidence, truth = leaky(1200)
    floor = 0.5 if attack.name in ("confidence", "entropy") else 0.56
    assert auc(attack.score(evidence, seeds=SEEDS).values, truth) > floor
    null, truth = leaky(1200, gain=0.0, seed=1)
    assert auc(attack.score(null, seeds=SEEDS).values, truth) == pytest.approx(0.5, abs=0.068)


def test_confidence_entropies_by_their_definitions() -> None:
    evidence, _ = leaky(50)
    p, y = np.exp(evidence.target), evidence.labels
    modified = []
    for row, label in zip(p, y, strict=True):
        value = -(1 - row[label]) * np.log(row[label])
        modified.append(value - sum(row[i] * np.log(1 - row[i]) for i in range(len(row)) if i != label))
    assert np.allclose(Confidence().score(evidence, seeds=SEEDS).values, np.log(p.max(axis=1)))
    assert np.allclose(Entropy().score(evidence, seeds=SEEDS).values, (p * np.log(p)).sum(axis=1))
    assert np.allclose(ModifiedEntropy().score(evidence, seeds=SEEDS).values, -np.array(modified))


def test_modified_entropy_at_certainty() -> None:
    evidence, _ = leaky(3)
    sure = np.log(np.maximum(np.eye(4)[[0, 0, 1]], 1e-300))
    evidence = replace(evidence, target=sure, labels=np.array([0, 1, 1]))
    right, wrong, right_too = ModifiedEntropy().score(evidence, seeds=SEEDS).values
    assert right == right_too == pytest.approx(0, abs=1e-12)
    assert wrong == pytest.approx(2 * SMALLEST, rel=1e-6)  # log p_y and log(1 - p_i) are both at the floor
    assert Entropy().score(evidence, seeds=SEEDS).values == pytest.approx(0, abs=1e-12)


def test_difficulty_is_the_difference_from_outsiders() -> None:
    evidence, _ = leaky(60)
    inside = evidence.shadow_inside.copy()
    inside[:, 0] = True
    evidence = replace(evidence, shadow_inside=inside)
    rows = np.arange(60)
    own = evidence.shadows[:, rows, evidence.labels]
    means = np.array([own[~inside[:, i], i].mean() if i else np.nan for i in rows])
    means[0] = np.nanmean(means)
    expected = evidence.target[rows, evidence.labels] - means
    assert np.allclose(DifficultyCalibration(shadows=8).score(evidence, seeds=SEEDS).values, expected)
    everywhere = replace(evidence, shadow_inside=np.ones_like(inside))
    with pytest.raises(IncompatibleError, match="every record is in every shadow"):
        DifficultyCalibration(shadows=8).score(everywhere, seeds=SEEDS)


def test_population_score_is_one_minus_a_p_value_within_the_class() -> None:
    evidence, _ = leaky(300)
    score = PopulationAttack().score(evidence, seeds=SEEDS).values
    own = evidence.target[np.arange(300), evidence.labels]
    public = evidence.population_target[np.arange(300), evidence.population_labels]
    for i in (0, 11, 200):
        peers = public[evidence.population_labels == evidence.labels[i]]
        assert np.floor(score[i] * (len(peers) + 1)) == (peers < own[i]).sum()
    whole = PopulationAttack(by="all").score(evidence, seeds=SEEDS).values
    assert np.array_equal(np.argsort(whole), np.argsort(LossThreshold().score(evidence, seeds=SEEDS).values))
    few = PopulationAttack(least=1000).score(evidence, seeds=SEEDS).values
    assert np.array_equal(few, whole)
    empty = np.zeros((0, 4)), np.zeros((8, 0, 4))
    none = replace(
        evidence, population_labels=np.zeros(0, dtype=np.int64), population_target=empty[0], population_shadows=empty[1]
    )
    with pytest.raises(ConfigError, match="population"):
        PopulationAttack().score(none, seeds=SEEDS)


@pytest.mark.parametrize("classifier", ["logistic", "boosting", "forest", "neural"])
def test_shadow_classifiers_learn_one_rule_a_class(classifier) -> None:
    # In class 0 members are surer, in class 1 less sure: only a classifier a class can tell.
    generator = np.random.default_rng(4)
    labels = np.repeat([0, 1], 400)
    inside = generator.random((5, 800)) < 0.5
    sign = np.where(labels == 0, 1.0, -1.0)
    phi = generator.normal(size=(5, 800)) * 0.5 + 1.0 * sign * inside + 2
    values = np.stack([-np.logaddexp(0, -phi), -np.logaddexp(0, phi)], axis=-1)
    values[:, 400:] = values[:, 400:, ::-1]
    evidence = Evidence(
        labels,
        tuple(map(str, range(800))),
        values[0],
        values[1:],
        inside[1:],
        np.zeros(0, dtype=np.int64),
        np.zeros((0, 2)),
        np.zeros((4, 0, 2)),
    )
    attack = ShadowClassifier(shadows=4, classifier=classifier)
    assert auc(attack.score(evidence, seeds=SEEDS).values, inside[0]) > 0.85
    one = ShadowClassifier(shadows=4, classifier="logistic", by="all")
    mixed = replace(evidence, target=values[0], labels=labels)
    assert auc(one.score(mixed, seeds=SEEDS).values, inside[0]) > 0.5
    with pytest.raises(IncompatibleError, match="nothing to learn"):
        attack.score(replace(evidence, shadow_inside=np.ones((4, 800), dtype=bool)), seeds=SEEDS)


def test_meta_never_plays_against_a_complement() -> None:
    inside = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)
    assert opponents_of(0, inside).tolist() == [2, 3]
    assert opponents_of(3, inside).tolist() == [0, 1]
    evidence, _ = leaky(40, shadows=4)
    same = replace(evidence, shadow_inside=np.array([[True] * 20 + [False] * 20, [False] * 20 + [True] * 20] * 2))
    with pytest.raises(IncompatibleError, match="can play"):
        MetaAttack(shadows=4).score(same, seeds=SEEDS)


def test_meta_needs_a_population_only_for_attacks_that_do() -> None:
    assert MetaAttack().needs.population
    assert not MetaAttack(attacks=("loss", "lira-bayesian")).needs.population


def test_meta_learns_from_shadows_alone_which_attack_to_trust() -> None:
    # 1500 records: standard error of an AUC 0.015, of the difference on the same records 0.01 or less.
    evidence, truth = leaky(1500)
    alone = {name: auc(build(8).score(evidence, seeds=SEEDS).values, truth) for name, build in BASES.items()}
    meta = auc(MetaAttack(shadows=8).score(evidence, seeds=SEEDS).values, truth)
    assert meta > max(alone.values()) - 0.02
    assert meta > alone["loss"] + 0.05


def test_views_enter_lira_as_a_joint_normal_law() -> None:
    evidence, truth = leaky(300, views=3, shadows=12)
    answers = evidence.answers["augmented"]
    target = view_logits(answers.target, evidence.labels)
    shadows = np.stack([view_logits(a, evidence.labels) for a in answers.shadows])
    laws = []
    for side in (evidence.shadow_inside, ~evidence.shadow_inside):
        means = np.stack([shadows[side[:, i], i].mean(axis=0) for i in range(300)])
        residual = np.concatenate([shadows[side[:, i], i] - means[i] for i in range(300)])
        laws.append((means, residual.T @ residual / (side.sum() - 300)))
    expected = [
        np.subtract(*(stats.multivariate_normal.logpdf(target[i], means[i], cov) for means, cov in laws))
        for i in range(300)
    ]
    attack = Lira(shadows=12, augmentations=3, views="joint")
    assert attack.needs.queries[0].count == 3
    assert np.allclose(attack.score(evidence, seeds=SEEDS).values, expected, atol=1e-3)
    for variance, views in (
        ("per-example", "joint"),
        ("global", "joint"),
        ("per-example", "weighted"),
        ("bayesian", "weighted"),
    ):
        scores = Lira(shadows=12, augmentations=3, variance=variance, views=views).score(evidence, seeds=SEEDS).values
        assert auc(scores, truth) > 0.6


def test_weights_of_the_views_are_fishers() -> None:
    evidence, _ = leaky(300, views=4)
    answers = evidence.answers["augmented"]
    shadows = np.stack([view_logits(a, evidence.labels) for a in answers.shadows])
    gaps, residual = [], []
    for i in range(300):
        sides = [shadows[evidence.shadow_inside[:, i] == seen, i] for seen in (True, False)]
        gaps.append(sides[0].mean(axis=0) - sides[1].mean(axis=0))
        residual += [side - side.mean(axis=0) for side in sides]
    stacked = np.concatenate(residual)
    weights = np.linalg.solve(stacked.T @ stacked / (8 * 300 - 600), np.mean(gaps, axis=0))
    weights /= np.abs(weights).sum()
    assert np.allclose(discriminant(evidence, answers, 8), weights, atol=1e-4)
    two = projected(evidence, answers, 8)
    sums = view_logits(answers.target, evidence.labels) @ discriminant(evidence, answers, 8)
    assert np.allclose(two.target[:, 1] - two.target[:, 0], sums)
    assert two.shadows.shape == (8, 300, 2)
    alone = replace(evidence, shadow_inside=np.ones((8, 300), dtype=bool))
    assert discriminant(alone, answers, 8).tolist() == [0.25] * 4


def test_a_view_that_says_nothing_costs_little() -> None:
    # One view with the signal, three of noise: 1500 records, standard error of an AUC 0.012.
    evidence, truth = leaky(1500, views=4)
    generator = np.random.default_rng(8)
    answers = evidence.answers["augmented"]
    noise = log_softmax(generator.normal(size=(9, 1500, 3, 4)), axis=3)
    useless = Answers(
        np.concatenate([evidence.target[:, None], noise[0]], axis=1),
        np.concatenate([evidence.shadows[:, :, None], noise[1:]], axis=2),
        answers.population_target,
        answers.population_shadows,
    )
    noisy = replace(evidence, answers={"augmented": useless})
    for variance in ("fixed", "bayesian"):
        many = auc(Lira(shadows=8, augmentations=4, variance=variance).score(noisy, seeds=SEEDS).values, truth)
        one = auc(Lira(shadows=8, variance=variance).score(evidence, seeds=SEEDS).values, truth)
        assert many > one - 0.01


def test_more_views_help_and_missing_ones_are_refused() -> None:
    # Views here differ by independent noise, so four say more than one; 1500 records, standard error 0.012.
    evidence, truth = leaky(1500, views=4)
    single = replace(
        evidence,
        target=evidence.answers["augmented"].target[:, 0],
        shadows=evidence.answers["augmented"].shadows[:, :, 0],
    )
    for variance in ("fixed", "bayesian"):
        many = auc(Lira(shadows=8, augmentations=4, variance=variance).score(evidence, seeds=SEEDS).values, truth)
        one = auc(Lira(shadows=8, variance=variance).score(single, seeds=SEEDS).values, truth)
        assert many > one + 0.01
    with pytest.raises(IncompatibleError, match="expected \\(records, 5, classes\\)"):
        Lira(shadows=8, augmentations=5).score(evidence, seeds=SEEDS)
    with pytest.raises(IncompatibleError, match="answers to the query 'augmented'"):
        Lira(shadows=8, augmentations=4).score(replace(evidence, answers={}), seeds=SEEDS)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MetaAttack(attacks=("lyra",)), "did you mean 'lira'"),
        (lambda: MetaAttack(attacks=()), "attacks is empty"),
        (lambda: MetaAttack(shadows=2), "shadows must be an integer >= 4"),
        (lambda: ShadowClassifier(classifier="svm"), "classifier must be one of"),
        (lambda: DifficultyCalibration(signal="p"), "signal must be one of"),
        (lambda: Lira(augmentations=0), "augmentations must be an integer >= 1"),
        (lambda: Lira(views="joint", mode="offline"), "set views to weighted"),
        (lambda: Lira(variance="bayes"), "variance must be one of"),
    ],
)
def test_bad_parameters_are_named(build, message) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_global_variance_pools_both_sides() -> None:
    evidence, _ = leaky(80, shadows=8)
    from leakgauge.attacks.membership.signals import logit

    phi = np.stack([logit(shadow, evidence.labels) for shadow in evidence.shadows])
    target = logit(evidence.target, evidence.labels)
    means, squares, freedom = {}, 0.0, 0
    for seen in (True, False):
        sides = [phi[evidence.shadow_inside[:, i] == seen, i] for i in range(80)]
        means[seen] = np.array([side.mean() for side in sides])
        squares += sum(((side - side.mean()) ** 2).sum() for side in sides)
        freedom += sum(len(side) - 1 for side in sides)
    laws = [stats.norm(means[seen], np.sqrt(squares / freedom)) for seen in (True, False)]
    scores = Lira(shadows=8, variance="global").score(evidence, seeds=SEEDS).values
    assert np.allclose(scores, laws[0].logpdf(target) - laws[1].logpdf(target))
