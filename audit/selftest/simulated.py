"""False claims of bounds whose outcome has no simple law: scores are drawn and guessed on, as in an audit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..bounds import Bayesian, ConfusionCounts, GuessCounts, OneRun, OneRunFdp, sequential
from ..bounds import one_run_anytime as anytime
from ..bounds.dp_sgd_curve import dp_sgd_curve
from ..bounds.one_run_fdp import evidence_against
from ..seeds import Seeds
from .exact import CANARIES, GUESSES, SLACK, first_false
from .mechanisms import Bools, Floats, Gaussian, KnownMechanism, Laplace, RandomizedResponse, SubsampledGaussian
from .report import FalseClaimCell

CHUNK = 500
"""Audits drawn at a time, which bounds the memory."""

PAIRS = 300


def simulated_cells(alpha: float, trials: int, seeds: Seeds) -> Iterator[FalseClaimCell]:
    """One cell for each bound and mechanism, at error probability `alpha`."""
    for mechanism in _one_run_mechanisms():
        yield from one_run_cells(mechanism, alpha, trials, seeds.at("one-run", mechanism.name))
    for block in (1, 5, 20):
        yield block_anytime_cell(block, alpha, trials, seeds.at("block", block))
    for mechanism in _sequential_mechanisms():
        yield sequential_cell(mechanism, alpha, trials, seeds.at("sequential", mechanism.name))
    for mechanism in (RandomizedResponse(0.0), RandomizedResponse(1.0)):
        yield bayesian_cell(mechanism, alpha, min(trials, 20_000), seeds.at("bayesian", mechanism.name))


def _one_run_mechanisms() -> list[KnownMechanism]:
    pure: list[KnownMechanism] = [RandomizedResponse(e) for e in (0.0, 1.0, 4.0)]
    return [*pure, Laplace(1.0), Gaussian(1.0), Gaussian(4.0), SubsampledGaussian()]


def _sequential_mechanisms() -> list[KnownMechanism]:
    pure: list[KnownMechanism] = [RandomizedResponse(e) for e in (0.0, 1.0, 2.0)]
    return [*pure, RandomizedResponse(1.0, 1e-2), Gaussian(4.0)]


def guesses(mechanism: KnownMechanism, canaries: int, trials: int, seeds: Seeds) -> Iterator[Bools]:
    """Whether each guess is right, most confident first, in chunks (audits, canaries); optimal scores, fair coins."""
    for start in range(0, trials, CHUNK):
        generator = seeds.at(start).generator()
        inside = generator.random((min(CHUNK, trials - start), canaries)) < 0.5
        score = mechanism.score(inside, generator)
        order = np.argsort(-np.abs(score), axis=1, kind="stable")
        # A score of zero says nothing; that guess falls to the sign's own coin, not to the truth.
        coin = generator.random(score.shape) < 0.5
        right = np.where(score == 0, coin, score > 0) == inside
        yield np.take_along_axis(right, order, axis=1)


def one_run_cells(mechanism: KnownMechanism, alpha: float, trials: int, seeds: Seeds) -> Iterator[FalseClaimCell]:
    """`one-run`, `one-run-anytime` and, inside their families, both kinds of `one-run-fdp` on the same audits."""
    judges = [_CountJudge.of(OneRun(), mechanism, alpha), *_family_judges(mechanism, alpha)]
    capital = _Capital.of(mechanism, alpha)
    claims = np.zeros(len(judges) + 1, dtype=np.int64)
    for right in guesses(mechanism, CANARIES, trials, seeds):
        correct = right[:, :GUESSES].sum(axis=1)
        claims[:-1] += [int(np.sum(correct >= judge.critical)) for judge in judges]
        claims[-1] += int(np.sum(capital.claims(right)))
    names = [judge.name for judge in judges] + ["one-run-anytime"]
    truth = (mechanism.epsilon, mechanism.delta)
    for name, number in zip(names, claims.tolist(), strict=True):
        yield FalseClaimCell.counted(name, mechanism.name, truth, alpha, number, trials)


@dataclass(frozen=True, slots=True)
class _CountJudge:
    """A bound on a fixed number of guesses: a false claim is `critical` or more of them right."""

    name: str
    critical: int

    @classmethod
    def of(cls, method: Any, mechanism: KnownMechanism, alpha: float) -> _CountJudge:
        def bound(correct: int) -> float:
            counts = GuessCounts(CANARIES, GUESSES, correct)
            return float(method.epsilon_lower(counts, delta=mechanism.delta, alpha=alpha))

        return cls(method.name, first_false(bound, GUESSES, mechanism.epsilon))


def _family_judges(mechanism: KnownMechanism, alpha: float) -> list[_CountJudge]:
    if isinstance(mechanism, Gaussian):
        return [_CountJudge.of(OneRunFdp(), mechanism, alpha)]
    if not isinstance(mechanism, SubsampledGaussian):
        return []
    # The bound exceeds the truth exactly when the true noise multiplier is rejected: no search is needed.
    curve = dp_sgd_curve(mechanism.noise_multiplier, mechanism.sample_rate, mechanism.steps, 2.5e-4)

    def evidence(correct: int) -> float:
        return evidence_against(GuessCounts(CANARIES, GUESSES, correct), alpha=alpha, inverse=curve.inverse)

    return [_CountJudge("one-run-fdp", first_false(evidence, GUESSES, 0.0))]


@dataclass(frozen=True, slots=True)
class _Capital:
    """The anytime bound's capital at the true epsilon for every (right, wrong): a false claim if it is ever enough."""

    table: Floats
    forgiven: int
    needed: float

    @classmethod
    def of(cls, mechanism: KnownMechanism, alpha: float) -> _Capital:
        return cls.at(mechanism.epsilon + SLACK, mechanism.delta, alpha, CANARIES)

    @classmethod
    def at(cls, epsilon: float, delta: float, alpha: float, canaries: int) -> _Capital:
        allowance = anytime.Allowance.of(canaries, delta, alpha)
        size = np.arange(canaries + 1)
        table = np.full((canaries + 1, canaries + 1), -np.inf, dtype=np.float64)
        for right in range(canaries + 1):
            wrong = size[: canaries + 1 - right]
            table[right, : len(wrong)] = anytime.log_capital(np.full(len(wrong), right), wrong, epsilon)
        return cls(table, allowance.forgiven, -math.log(allowance.alpha))

    def claims(self, right: Bools) -> Bools:
        """Whether the capital of each audit (audits, guesses) was ever enough."""
        correct = np.cumsum(right, axis=1)
        wrong = np.arange(1, right.shape[1] + 1) - correct
        reached = self.table[np.maximum(correct - self.forgiven, 0), wrong]
        return np.asarray(reached.max(axis=1) >= self.needed)


def block_anytime_cell(block: int, alpha: float, trials: int, seeds: Seeds) -> FalseClaimCell:
    """`one-run-anytime` at delta > 0 against randomized response that, with probability m delta / block, gives away
    a block of canaries, which are then guessed first."""
    epsilon, delta = 1.0, 1e-4
    capital = _Capital.at(epsilon + SLACK, delta, alpha, CANARIES)
    claims = 0
    for start in range(0, trials, CHUNK):
        generator = seeds.at(start).generator()
        size = min(CHUNK, trials - start)
        right = generator.random((size, CANARIES)) < special.expit(epsilon)
        revealed = generator.random(size) < CANARIES * delta / block
        right[revealed, :block] = True
        claims += int(np.sum(capital.claims(right)))
    name = f"block-of-{block}({epsilon:g}, {delta:g})"
    return FalseClaimCell.counted("one-run-anytime", name, (epsilon, delta), alpha, claims, trials)


def sequential_cell(mechanism: KnownMechanism, alpha: float, trials: int, seeds: Seeds) -> FalseClaimCell:
    """`sequential` at the test in the corner of the mechanism's region, stopped at the best moment."""
    corner = (1 - mechanism.delta) / (1 + math.exp(mechanism.epsilon))
    needed, claims = -math.log(alpha), 0
    for inside, outside in pair_outputs(mechanism, corner, PAIRS, trials, seeds):
        capital = sequential.log_capital(inside, outside, mechanism.epsilon + SLACK, mechanism.delta)
        claims += int(np.sum(capital.max(axis=-1) >= needed))
    truth = (mechanism.epsilon, mechanism.delta)
    return FalseClaimCell.counted("sequential", mechanism.name, truth, alpha, claims, trials)


def pair_outputs(
    mechanism: KnownMechanism, false_positive_rate: float, pairs: int, trials: int, seeds: Seeds
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Guesses of 0 or 1 in chunks (audits, pairs) of the best test at one false positive rate, inside and outside."""
    tpr = mechanism.true_positive_rate(false_positive_rate)
    for start in range(0, trials, CHUNK):
        generator = seeds.at(start).generator()
        shape = (min(CHUNK, trials - start), pairs)
        inside, outside = generator.random(shape) < tpr, generator.random(shape) < false_positive_rate
        yield inside.astype(np.float64), outside.astype(np.float64)


def bayesian_cell(mechanism: KnownMechanism, alpha: float, trials: int, seeds: Seeds) -> FalseClaimCell:
    """`bayesian` on 50 models a side: shown, not judged, because it promises no frequency."""
    runs = 50
    corner = 1 / (1 + math.exp(mechanism.epsilon))
    generator = seeds.generator()
    hits = generator.binomial(runs, mechanism.true_positive_rate(corner), trials)
    alarms = generator.binomial(runs, corner, trials)
    claims = 0
    outcomes, numbers = np.unique(np.stack([hits, alarms], axis=1), axis=0, return_counts=True)
    for (t, f), number in zip(outcomes.tolist(), numbers.tolist(), strict=True):
        counts = ConfusionCounts(t, f, runs, runs)
        # Tolerance above the bound's own 1e-7; at epsilon 0 every positive bound is a false claim.
        if Bayesian().epsilon_lower(counts, delta=0.0, alpha=alpha) > mechanism.epsilon + 1e-6:
            claims += number
    return FalseClaimCell.counted("bayesian", mechanism.name, (mechanism.epsilon, 0.0), alpha, claims, trials)
