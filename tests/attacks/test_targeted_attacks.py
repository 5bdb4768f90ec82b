"""Label-only, white-box, trajectory and quantile attacks: on small trained networks, and on signals of known law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from leakgauge.attacks.membership import (
    Gap,
    GradientNorm,
    LabelOnlyAugment,
    LabelOnlyBoundary,
    LossThreshold,
    LossTrajectory,
    Quantile,
    WhiteBox,
)
from leakgauge.attacks.membership.calibration import likelihood_ratio
from leakgauge.attacks.membership.learned import learned_scores
from leakgauge.attacks.membership.queries import BoundaryDistance, GradientNorms, Trajectory, Votes
from leakgauge.audit.design import coin_flips, paired_coin_flips
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.metrics import auc
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, Answers, Evidence, Job, Rows, Trained
from leakgauge.trainers.sgd import Sgd

SEEDS = Seeds(21)
SHADOWS = 8


class Fixture:
    """One target and eight shadows on 240 digits with noisy labels, 200 public digits, and what they were asked."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        pictures, labels = load_digits(return_X_y=True)
        generator = SEEDS.at("data").generator()
        order = generator.permutation(len(labels))[:440]
        noisy = np.where(generator.random(440) < 0.2, generator.integers(0, 10, 440), labels[order]).astype(np.int64)
        features = (pictures[order] / 16).astype(np.float32).reshape(440, 1, 8, 8)
        self.rows = Rows(features, noisy, tuple(f"r{i}" for i in range(440)), 10)
        self.private, self.public = self.rows.take(np.arange(240)), self.rows.take(np.arange(240, 440))
        self.truth = coin_flips(self.private.records, 1, seeds=SEEDS.at("target")).inside[0]
        self.inside = paired_coin_flips(self.private.records, SHADOWS, seeds=SEEDS.at("shadows")).inside
        trainer = Sgd(hidden=(64,), epochs=60, optimizer="adam", learning_rate=0.003, batch_size=32, nominal_rows=120)
        jobs = [Job(row, SEEDS.at("model", k)) for k, row in enumerate([self.truth, *self.inside])]
        self.models: Sequence[Trained] = trainer.fit_many(self.private, jobs, device="cpu")
        self.asked: dict[Any, list[np.ndarray]] = {}

    def answers(self, query: Any, models: int) -> list[np.ndarray]:
        known = self.asked.setdefault(query, [])
        for model in self.models[len(known) : models]:
            if query is None:
                known.append(model.target.log_probabilities(self.rows.features))
            else:
                known.append(query.ask(model, self.rows, seeds=SEEDS.at("query"), device="cpu"))
        return known[:models]

    def evidence(self, attack: Any) -> Evidence:
        needs, n = attack.needs, 240
        cut = {}
        for query in needs.queries:
            target, *shadows = self.answers(query, 1 + needs.shadows)
            stacked = np.stack(shadows) if shadows else np.zeros((0, *target.shape), np.float32)
            cut[query.name] = Answers(target[:n], stacked[:, :n], target[n:], stacked[:, n:])
        target, *shadows = self.answers(None, 1 + SHADOWS)
        stacked = np.stack(shadows)
        return Evidence(
            self.private.labels, self.private.records, target[:n], stacked[:, :n], self.inside, self.public.labels,
            target[n:], stacked[:, n:], answers=cut,
            features=self.private.features if needs.features else None,
            population_features=self.public.features if needs.features else None,
        )  # fmt: skip

    def auc(self, attack: Any) -> float:
        return auc(attack.score(self.evidence(attack), seeds=SEEDS.at("attack")).values, self.truth)


@pytest.fixture(scope="module")
def digits() -> Fixture:
    return Fixture()


SMALL = {"budget": 80, "rounds": 1}
TRAJECTORY = {"epochs": 8, "hidden": 64}


@pytest.mark.parametrize(
    ("attack", "least"),
    [
        (Gap(), 0.6),
        (LabelOnlyBoundary(**SMALL), 0.6),
        (LabelOnlyBoundary(**SMALL, shadows=SHADOWS), 0.65),
        (LabelOnlyAugment(count=5), 0.55),
        (LabelOnlyAugment(count=5, shadows=SHADOWS), 0.55),
        (LabelOnlyAugment(count=5, kind="noise"), 0.6),
        (GradientNorm(), 0.65),
        (GradientNorm(signal="input"), 0.65),
        (GradientNorm(signal="last"), 0.65),
        (GradientNorm(shadows=SHADOWS), 0.7),
        (WhiteBox(shadows=SHADOWS), 0.7),
        (LossTrajectory(shadows=0, **TRAJECTORY), 0.65),
        (LossTrajectory(shadows=SHADOWS, **TRAJECTORY), 0.7),
        (Quantile(), 0.6),
        (Quantile(head="pinball"), 0.6),
    ],
    ids=repr,
)
def test_overfitted_networks_leak_to_every_attack(digits: Fixture, attack: Any, least: float) -> None:
    # One target of 240 records: an AUC has a standard error of about 0.035; everything is seeded.
    assert digits.auc(attack) > least


def test_nobody_outside_is_told_from_others_outside(digits: Fixture) -> None:
    """Negative control: on the records that the target did not see, a random half are called members.

    AUC 0.5 with a standard error of 0.054 on 120 records: 4 standard errors, false failures below 1 in 10^4 a case.
    """
    half = coin_flips(digits.private.records, 1, seeds=SEEDS.at("fake")).inside[0]
    out = ~digits.truth
    for attack in (LabelOnlyBoundary(**SMALL), WhiteBox(shadows=SHADOWS), Quantile(), LossTrajectory(**TRAJECTORY)):
        scores = attack.score(digits.evidence(attack), seeds=SEEDS.at("attack")).values
        assert abs(auc(scores[out], half[out]) - 0.5) < 0.22


def test_shadows_help(digits: Fixture) -> None:
    assert digits.auc(WhiteBox(shadows=SHADOWS)) > digits.auc(GradientNorm())
    assert digits.auc(LossTrajectory(shadows=SHADOWS, **TRAJECTORY)) > digits.auc(LossThreshold())


def test_label_only_attacks_read_labels_only(digits: Fixture) -> None:
    """Probabilities may change in any way that keeps the largest: no score moves."""
    for attack in (Gap(), LabelOnlyBoundary(**SMALL), LabelOnlyAugment(count=5)):
        assert attack.needs.access == Access.LABELS
        assert all(query.access == Access.LABELS for query in attack.needs.queries)

        class Blunt:
            def __init__(self, target: Any) -> None:
                self.target = target

            def log_probabilities(self, features: np.ndarray) -> np.ndarray:
                answers = self.target.log_probabilities(features)
                return np.log(np.where(np.eye(10)[answers.argmax(axis=1)] > 0, 0.91, 0.01)).astype(np.float32)

        sharp = digits.models[0]
        blunt = Trained(None, Blunt(sharp.target), None, 0)
        few = digits.rows.take(np.arange(60))
        for query in attack.needs.queries:
            np.testing.assert_array_equal(
                *(query.ask(model, few, seeds=SEEDS, device="cpu") for model in (sharp, blunt))
            )


def test_the_gap_attack_is_right_or_wrong(digits: Fixture) -> None:
    evidence = digits.evidence(Gap())
    scores = Gap().score(evidence, seeds=SEEDS).values
    np.testing.assert_array_equal(scores, evidence.target.argmax(axis=1) == evidence.labels)


def test_likelihood_ratio_equals_a_loop_over_records() -> None:
    generator = np.random.default_rng(3)
    inside = generator.random((10, 30)) < 0.5
    inside[:, 0], inside[:, 1] = True, False
    shadows = generator.normal(size=(10, 30)) + inside
    target = generator.normal(size=30)
    residual: dict[bool, list[float]] = {True: [], False: []}
    freedom = {True: 0, False: 0}
    means = {}
    for i in range(30):
        for side in (True, False):
            values = shadows[inside[:, i] == side, i]
            if len(values):
                means[i, side] = values.mean()
                residual[side] += list((values - values.mean()) ** 2)
                freedom[side] += len(values) - 1
    both = [i for i in range(30) if (i, True) in means and (i, False) in means]
    shift = np.mean([means[i, True] - means[i, False] for i in both])
    means[1, True], means[0, False] = means[1, False] + shift, means[0, True] - shift
    spread = {side: np.sqrt(sum(residual[side]) / freedom[side]) for side in residual}
    expected = [
        norm.logpdf(target[i], means[i, True], spread[True]) - norm.logpdf(target[i], means[i, False], spread[False])
        for i in range(30)
    ]
    np.testing.assert_allclose(likelihood_ratio("x", target, shadows, inside), expected, rtol=1e-9)
    with pytest.raises(IncompatibleError, match="no record is in some shadow models"):
        likelihood_ratio("x", target, shadows, np.ones((10, 30), bool))


def test_learned_scores_approach_the_best_possible_auc() -> None:
    """Signal = the record's own level + 1.5 if inside + N(0, 1): the likelihood ratio has AUC Phi(1.5 / sqrt 2) =
    0.856. With 32 shadows levels are known to 1/4, which costs little; 3000 records fix the AUC to 0.007."""
    generator = np.random.default_rng(0)
    level = generator.normal(size=3000) * 4
    inside = paired_coin_flips(tuple(map(str, range(3000))), 32, seeds=Seeds(1)).inside
    truth = generator.random(3000) < 0.5

    def signals(members: np.ndarray) -> np.ndarray:
        useful = level + 1.5 * members + generator.normal(size=members.shape)
        return np.stack([useful, generator.normal(size=members.shape)], axis=-1)

    scores = learned_scores("x", signals(truth), signals(inside), inside)
    assert auc(scores, truth) == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=0.025)
    with pytest.raises(IncompatibleError, match="at least 4 shadows"):
        learned_scores("x", signals(truth), signals(inside)[:3], inside[:3])


def test_a_shadow_is_compared_with_the_others_only() -> None:
    """Were a shadow's own value in its mean, the classifier would learn a shrunken difference: outside shadows would
    look nearer to their mean than the target does. With pure noise the scores must not tell the truth."""
    generator = np.random.default_rng(0)
    inside = paired_coin_flips(tuple(map(str, range(2000))), 4, seeds=Seeds(1)).inside
    noise = generator.normal(size=(4, 2000, 1))
    scores = learned_scores("x", generator.normal(size=(2000, 1)), noise, inside)
    # No signal, no odds: an intercept or slope away from 0 would show here. 8000 examples fix the slope to 0.03.
    assert np.abs(scores).mean() < 0.1


@pytest.mark.parametrize("head", ["gaussian", "pinball"])
def test_quantiles_find_what_a_global_threshold_misses(head: str) -> None:
    """The level of a record's logit is a function of its features, far wider than what membership adds."""
    generator = np.random.default_rng(5)
    columns = generator.normal(size=(6000, 3)).astype(np.float32)
    labels = generator.integers(0, 2, 6000)
    truth = generator.random(6000) < 0.5
    truth[3000:] = False
    phi = 4 * columns[:, 0] + 2 * labels + 1.5 * truth + generator.normal(size=6000)
    chances = np.stack([-np.logaddexp(0, phi), -np.logaddexp(0, -phi)], axis=-1)
    answers = np.where(labels[:, None] == 1, chances, chances[:, ::-1])
    none = np.zeros((0, 3000, 2))
    evidence = Evidence(
        labels[:3000], tuple(map(str, range(3000))), answers[:3000], none, np.zeros((0, 3000), bool), labels[3000:],
        answers[3000:], none, features=columns[:3000], population_features=columns[3000:],
    )  # fmt: skip
    plain = auc(LossThreshold().score(evidence, seeds=SEEDS).values, truth[:3000])
    found = auc(Quantile(head=head).score(evidence, seeds=SEEDS).values, truth[:3000])
    # The best possible is Phi(1.5 / sqrt 2) = 0.856, with the level known.
    assert plain < 0.65
    assert 0.79 < found < 0.88


def test_quantile_needs_public_records_with_numbers(digits: Fixture) -> None:
    from dataclasses import replace

    evidence = digits.evidence(Quantile())
    with pytest.raises(IncompatibleError, match="at least 50"):
        Quantile().score(replace(evidence, features=None, population_features=None), seeds=SEEDS)
    tokens = replace(evidence, features=np.ones((240, 3), int), population_features=np.ones((200, 3), int))
    with pytest.raises(IncompatibleError, match="tokens"):
        Quantile().score(tokens, seeds=SEEDS)


def test_many_columns_are_projected(digits: Fixture) -> None:
    from dataclasses import replace

    evidence = digits.evidence(Quantile())
    wide = replace(
        evidence,
        features=np.tile(evidence.features.reshape(240, -1), 3),
        population_features=np.tile(evidence.population_features.reshape(200, -1), 3),
    )
    assert auc(Quantile().score(wide, seeds=SEEDS).values, digits.truth) > 0.58


def test_what_attacks_declare() -> None:
    assert LabelOnlyBoundary(budget=90, rounds=2).needs.queries == (BoundaryDistance(90, 2),)
    assert LabelOnlyAugment(count=7, kind="flip").needs.queries == (Votes(7, "flip", 0.1),)
    assert GradientNorm(shadows=4).needs.shadows == 4
    assert WhiteBox().needs.queries == (GradientNorms(),)
    assert LossTrajectory(epochs=3).needs.queries == (Trajectory(3, 4, 128),)
    assert Access.WEIGHTS in GradientNorm().needs.access
    assert Quantile().needs.features
    for wrong in (
        lambda: LabelOnlyBoundary(shadows=1),
        lambda: WhiteBox(shadows=2),
        lambda: LossTrajectory(shadows=3),
        lambda: GradientNorm(signal="loss"),
        lambda: Quantile(head="ridge"),
    ):
        with pytest.raises(ConfigError):
            wrong()
