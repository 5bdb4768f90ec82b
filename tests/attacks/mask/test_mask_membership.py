"""Membership from bits: the test of known rates is Neyman and Pearson's, and estimated ones come near it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from leakgauge.attacks.mask.gradient import MaskGradient
from leakgauge.attacks.mask.likelihood import MaskLikelihood, selected_scores, shrunk_scores
from leakgauge.attacks.mask.queries import MaskAgreement, MaskBits
from leakgauge.attacks.mask.rates import best_bits, excess_share, log_ratio, prior_strength, rates_of, smoothed
from leakgauge.audit.attacked import split_answers
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.metrics import auc
from leakgauge.audit.registry import ATTACKS
from leakgauge.audit.rules import RULES
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Answers, Evidence, Rows, Trained
from leakgauge.trainers.sgd import Sgd
from leakgauge.trainers.supermask.trainer import Supermask


def pairs(generator: np.random.Generator, shadows: int, records: int) -> np.ndarray[Any, Any]:
    half = generator.random((shadows // 2, records)) < 0.5
    inside = np.empty((shadows, records), np.bool_)
    inside[0::2], inside[1::2] = half, ~half
    return inside


def evidence(target: Any, shadows: Any, inside: Any) -> Evidence:
    """Evidence whose only content is masks."""
    records = inside.shape[1]
    flat = np.full((records, 2), np.log(0.5), np.float32)
    masks = Answers(
        target.astype(np.float32), shadows.astype(np.float32), np.zeros(0, np.float32), np.zeros((0, 1), np.float32)
    )
    return Evidence(
        labels=np.zeros(records, np.int64),
        records=tuple(map(str, range(records))),
        target=flat,
        shadows=np.broadcast_to(flat, (len(shadows), records, 2)),
        shadow_inside=inside,
        population_labels=np.zeros(0, np.int64),
        population_target=np.zeros((0, 2), np.float32),
        population_shadows=np.zeros((len(shadows), 0, 2), np.float32),
        answers={MaskBits.name: masks},
    )


def test_registered() -> None:
    for name, plug in (("mask-likelihood", MaskLikelihood), ("mask-gradient", MaskGradient)):
        assert ATTACKS.load(name) is plug
        assert f"membership.{name}" in RULES


def test_known_rates_give_the_likelihood_ratio_of_every_mask() -> None:
    """Oracle: products of probabilities over all 2^5 masks, which also sum to 1."""
    inside, outside = np.array([[0.2, 0.9, 0.5, 0.7, 0.4]]), np.array([[0.3, 0.6, 0.5, 0.1, 0.5]])
    total = 0.0
    for mask in product([False, True], repeat=5):
        bits = np.array(mask)
        with_it, without = (np.prod(np.where(bits, p[0], 1 - p[0])) for p in (inside, outside))
        assert log_ratio(bits, inside, outside)[0] == pytest.approx(np.log(with_it / without))
        total += with_it
    assert total == pytest.approx(1.0)


ONES, P, Q, IDLE = 40, 0.6, 0.4, 160
"""40 bits whose chance is 0.6 with the record and 0.4 without it, among 160 that do not care."""


def best_auc() -> float:
    """Exact: the test counts ones among the 40, Binomial(40, p) against Binomial(40, q); ties count half."""
    k = np.arange(ONES + 1)
    p, q = stats.binom.pmf(k, ONES, P), stats.binom.pmf(k, ONES, Q)
    return float(p @ (np.cumsum(q) - q / 2))


def masks(generator: np.random.Generator, inside: Any, usual: Any) -> Any:
    """Bits (models, records, d) of models in each of which one record matters at a time."""
    rates = np.where(np.arange(ONES + IDLE) < ONES, np.where(inside[..., None], P, Q), usual)
    return generator.random(rates.shape) < rates


def test_estimated_rates_reach_the_optimum_as_shadows_grow() -> None:
    """600 worlds of one record each, 8 and 200 shadows. The standard error of an AUC near 0.9 is 0.013: bounds at four
    of them from what was seen (0.93, 0.89) fail by chance 1e-4 of the time. Few shadows do worse, but not badly."""
    generator, worlds = Seeds(3).generator(), 600
    usual = generator.random(ONES + IDLE)
    found: dict[tuple[int, str], float] = {}
    truth = generator.random(worlds) < 0.5
    for shadows in (8, 200):
        shrunk, picked, known = np.empty(worlds), np.empty(worlds), np.empty(worlds)
        for world in range(worlds):
            inside = pairs(generator, shadows, 1)
            theirs, own = masks(generator, inside, usual)[:, 0], masks(generator, truth[world : world + 1], usual)[0]
            fold = (np.arange(shadows) // 2) % 2 == 0
            shrunk[world] = shrunk_scores(own, theirs, inside)[0]
            picked[world] = selected_scores(own, theirs[fold], inside[fold], theirs[~fold], inside[~fold], 40)[0]
            known[world] = log_ratio(own[:ONES], np.full((1, ONES), P), np.full((1, ONES), Q))[0]
        found |= {(shadows, "shrunk"): auc(shrunk, truth), (shadows, "picked"): auc(picked, truth)}
        assert auc(known, truth) == pytest.approx(best_auc(), abs=0.035)
    assert found[200, "shrunk"] > best_auc() - 0.09
    assert found[200, "picked"] > best_auc() - 0.12
    assert 0.5 < found[8, "shrunk"] < found[200, "shrunk"]
    assert 0.5 < found[8, "picked"] < found[200, "picked"]


def test_masks_that_do_not_depend_on_records_say_nothing() -> None:
    """AUC over 400 records of pure noise: standard error 0.029, within four of them (1e-4)."""
    generator = Seeds(4).generator()
    inside, truth = pairs(generator, 32, 400), generator.random(400) < 0.5
    theirs, own = generator.random((32, 300)) < 0.5, generator.random(300) < 0.5
    for selection in ("shrinkage", "cross-fit"):
        attack = MaskLikelihood(shadows=32, selection=selection, keep=20)  # type: ignore[arg-type]
        scores = attack.score(evidence(own, theirs, inside), seeds=Seeds(0))
        assert abs(auc(scores.values, truth) - 0.5) < 0.12


def test_rates_are_counts_over_counts() -> None:
    """Oracle: naive loops, and a record that no shadow saw."""
    generator = Seeds(5).generator()
    bits, inside = generator.random((10, 7)) < 0.4, generator.random((10, 5)) < 0.5
    inside[:, 4] = False
    rates = rates_of(bits, inside)
    for record in range(4):
        assert np.allclose(rates.inside[record], bits[inside[:, record]].mean(0))
        assert np.allclose(rates.outside[record], bits[~inside[:, record]].mean(0))
    assert np.allclose(rates.difference[4], 0)
    common = bits.mean(0)
    one, other = smoothed(rates, common, 3.0)
    assert np.allclose(one[0], (bits[inside[:, 0]].sum(0) + 3 * common) / (inside[:, 0].sum() + 3))
    assert np.allclose(other[0], (bits[~inside[:, 0]].sum(0) + 3 * common) / ((~inside[:, 0]).sum() + 3))


def test_the_noise_of_a_difference_is_that_of_dealing_ones_at_random() -> None:
    """Oracle: 20 000 random deals of 7 ones among 4 and 8 shadows; the variance within 5 % (its error is 1 %)."""
    generator = Seeds(6).generator()
    bits = np.zeros((12, 1), np.bool_)
    bits[:7] = True
    deals = np.stack([generator.permutation(12) < 4 for _ in range(20_000)], axis=1)
    rates = rates_of(bits, deals)
    expected = rates.noise(bits.mean(0))[0, 0]
    assert rates.difference.var() == pytest.approx(expected, rel=0.05)


def test_prior_strength_is_recovered() -> None:
    """Rates drawn from Beta laws of strength 10 around the common rate, 24 shadows: found within 25 %."""
    generator, shadows = Seeds(7).generator(), 24
    inside = pairs(generator, shadows, 1)
    common = generator.uniform(0.2, 0.8, 20_000)
    law = [generator.beta(10 * common, 10 * (1 - common)) for _ in range(2)]
    bits = generator.random((shadows, len(common))) < np.where(inside, law[0], law[1])
    strength = prior_strength(excess_share(bits, inside, bits.mean(0)), shadows / 2)
    assert strength == pytest.approx(10, rel=0.25)
    fair = generator.random((shadows, len(common))) < common
    assert prior_strength(excess_share(fair, inside, fair.mean(0)), shadows / 2) > 300


def test_the_bits_picked_are_those_that_differ_most() -> None:
    bits = np.zeros((8, 6), np.bool_)
    inside = np.array([[True], [False]] * 4)
    bits[:, 3], bits[0, 1], bits[:3, 5] = inside[:, 0], True, True
    assert set(best_bits(rates_of(bits, inside), bits.mean(0), 1)[0]) == {3}
    assert best_bits(rates_of(bits, inside), bits.mean(0), 99).shape == (1, 6)


def test_order_of_records_and_mistakes() -> None:
    generator = Seeds(8).generator()
    inside = pairs(generator, 8, 6)
    theirs, own = generator.random((8, 30)) < 0.5, generator.random(30) < 0.5
    given = evidence(own, theirs, inside)
    scores = MaskLikelihood(shadows=8).score(given, seeds=Seeds(0)).values
    moved = MaskLikelihood(shadows=8).score(evidence(own, theirs, inside[:, ::-1]), seeds=Seeds(0)).values
    assert np.allclose(scores, moved[::-1])
    with pytest.raises(IncompatibleError, match="no record is in some"):
        MaskLikelihood(shadows=8).score(replace(given, shadow_inside=np.ones_like(inside)), seeds=Seeds(0))
    with pytest.raises(IncompatibleError, match="has 29 bits"):
        MaskLikelihood(shadows=8).score(evidence(own[1:], theirs, inside), seeds=Seeds(0))
    with pytest.raises(ConfigError, match="selection must be one of"):
        MaskLikelihood(selection="all")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at must be one of"):
        MaskGradient(at="start")  # type: ignore[arg-type]


def test_answers_about_a_whole_model_are_not_cut_into_records() -> None:
    asked: Any = np.arange(12.0).reshape(3, 4)
    whole = split_answers(asked, 2, slice(1, 2), 3, whole=True)
    assert np.array_equal(whole.target, asked[0])
    assert np.array_equal(whole.shadows, asked[1:])
    assert not len(whole.population_target)


@pytest.fixture(scope="module")
def trained(blobs: Rows) -> Trained:
    return Supermask(hidden=(24,), epochs=8, batch_size=16).fit(
        blobs, np.arange(len(blobs)) < 60, seeds=Seeds(1), device="cpu"
    )


def test_the_queries_read_masks(trained: Trained, blobs: Rows) -> None:
    """Oracle for the agreement: torch's own gradient, record by record, through hand-masked weights."""
    bits = MaskBits().ask(trained, blobs, seeds=Seeds(0), device="cpu")
    assert np.array_equal(bits, trained.model.bits().numpy().astype(np.float32))
    rows = blobs.take(np.arange(5))
    answers = MaskAgreement().ask(trained, rows, seeds=Seeds(0), device="cpu")
    assert answers.shape == (5, 2)
    module = trained.model
    for column, multiplier in ((0, module.bits().float()), (1, torch.full(bits.shape, 0.5))):
        for k in range(5):
            m = multiplier.clone().requires_grad_()
            flat = module.frozen * m
            weights = {p.name: flat[p.place].view(p.shape) for p in module.pieces}
            logits = torch.func.functional_call(module.network, weights, (torch.from_numpy(rows.features[k : k + 1]),))
            torch.autograd.backward(torch.nn.functional.cross_entropy(logits, torch.from_numpy(rows.labels[k : k + 1])))
            assert m.grad is not None
            expected = -float(m.grad @ (2 * module.bits().float() - 1)) / float(m.grad.norm())
            assert answers[k, column] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    plain = Sgd(hidden=(4,), epochs=1).fit(blobs, np.ones(len(blobs), np.bool_), seeds=Seeds(1), device="cpu")
    with pytest.raises(IncompatibleError, match="needs a model with a mask"):
        MaskBits().ask(plain, blobs, seeds=Seeds(0), device="cpu")


def test_the_gradient_at_the_mask_against_the_mask_is_a_function_of_the_logits(trained: Trained, blobs: Rows) -> None:
    """Euler: for ReLU layers without biases <mask, gradient> is layers times sum_k z_k (p_k - [k = y])."""
    module, x = trained.model, torch.from_numpy(blobs.features[:9])
    y = torch.from_numpy(blobs.labels[:9])
    gradient = module.multiplier_gradients(x, y)
    logits = module(x).detach()
    expected = 2 * (logits * (logits.softmax(1) - torch.nn.functional.one_hot(y, logits.shape[1]))).sum(1)
    assert torch.allclose(gradient @ module.bits().float(), expected, atol=1e-4)


def test_gradient_scores_use_the_column_and_the_shadows() -> None:
    generator = Seeds(9).generator()
    inside = pairs(generator, 16, 200)
    truth = generator.random(200) < 0.5
    columns = np.stack([np.zeros((17, 200)), np.concatenate([truth[None], inside]) * 2.0], axis=2)
    columns += generator.normal(size=columns.shape) + generator.normal(size=(200, 1)) * 3
    shapes = Answers(columns[0], columns[1:], np.zeros((0, 2)), np.zeros((16, 0, 2)))
    given = replace(evidence(np.zeros(3), np.zeros((16, 3)), inside), answers={MaskAgreement.name: shapes})
    with_shadows = MaskGradient(shadows=16).score(given, seeds=Seeds(0)).values
    alone = MaskGradient().score(given, seeds=Seeds(0)).values
    released = MaskGradient(at="released", shadows=16).score(given, seeds=Seeds(0)).values
    assert np.array_equal(alone, columns[0, :, 1])
    assert auc(with_shadows, truth) > 0.85 > auc(alone, truth)
    assert abs(auc(released, truth) - 0.5) < 0.15
