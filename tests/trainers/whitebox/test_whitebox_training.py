from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from opacus.optimizers import DPOptimizer
from scipy.stats import ks_2samp
from torch import nn
from torch.utils.data import TensorDataset

from leakgauge.attacks.canary.gradient import GradientCanary
from leakgauge.audit.design import CoinTrials
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.sampling import batch_stream
from leakgauge.trainers.whitebox import (
    CanaryDataset,
    CanaryLoss,
    CanaryModel,
    GradientCanaries,
    Recorder,
    saturate,
    slot_numbers,
    train_with_canaries,
)

CANARIES, RATE, STEPS, NOISE = 400, 0.05, 60, 1.0
TRAINER = DpSgd(model="logistic", noise_multiplier=NOISE, batch_size=30, nominal_rows=600, epochs=STEPS * RATE)
ATTACK = GradientCanary(RATE, NOISE)


def blobs(rows: int = 200) -> Rows:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, rows)
    features = (generator.normal(size=(rows, 6)) + 2 * np.eye(3, 6)[labels]).astype(np.float32)
    return Rows(features, labels.astype(np.int64), tuple(map(str, range(rows))), 3, "blobs")


def train(canaries=GradientCanaries(CANARIES), trainer=TRAINER, seed=1, **options):  # noqa: B008
    return train_with_canaries(
        trainer, blobs(), canaries, statistics=ATTACK.accumulators(), seeds=Seeds(seed), device="cpu", **options
    )


def no_noise(optimizer, **settings):
    return DPOptimizer(optimizer, **(settings | {"noise_multiplier": 0.0}))


@pytest.mark.parametrize("kind", ["dirac", "random"])
def test_without_noise_a_release_says_who_was_in_the_batch(kind, tmp_path) -> None:
    # Oracle: the batches drawn again, outside the training loop.
    canaries = GradientCanaries(CANARIES, kind, 50 if kind == "random" else None)
    run = train(canaries, make_private=no_noise, store=tmp_path / "x.npy")
    stream = batch_stream(
        np.arange(200 + CANARIES), sampling="poisson", batch_size=30, sample_rate=RATE, seeds=Seeds(1)
    )
    present = np.zeros((STEPS, CANARIES))
    for step, batch in enumerate(stream.take(STEPS).each()):
        present[step, batch[batch >= 200] - 200] = 1
    expected = present * run.inside
    if kind == "random":
        directions = canaries.directions(seeds=Seeds(1).at("directions"), device="cpu").numpy()
        expected = expected @ directions @ directions.T
    np.testing.assert_allclose(run.transcript.projections(), expected, atol=2e-5)
    assert run.transcript.steps == STEPS


def test_scores_have_the_law_of_subsampled_gaussian_noise() -> None:
    # Oracle: the mechanism simulated in numpy. Two KS tests at level 1e-3 on fixed seeds.
    run = train()
    generator = np.random.default_rng(7)
    scores = run.transcript.scores["llr"]
    for inside in (True, False):
        x = generator.normal(size=(20_000, STEPS)) * NOISE
        if inside:
            x += generator.random(x.shape) < RATE
        simulated = np.log(1 - RATE + RATE * np.exp((2 * x - 1) / 2)).sum(1)
        assert ks_2samp(scores[run.inside == inside], simulated).pvalue > 1e-3


def test_ghost_clipping_releases_the_same_as_hooks() -> None:
    hooks, ghost = train(), train(trainer=replace(TRAINER, clipping="ghost"))
    for name, scores in hooks.transcript.scores.items():
        np.testing.assert_allclose(ghost.transcript.scores[name], scores, atol=1e-3)


def test_statistics_from_stored_projections_equal_those_on_line(tmp_path) -> None:
    run = train(store=tmp_path / "projections.npy")
    assert (tmp_path / "projections.npy").stat().st_size < 4 * STEPS * CANARIES + 200
    for statistic in ("sum", "max", "llr", "llr-measured"):
        again = replace(ATTACK, statistic=statistic).score(run.transcript.projections(), run.transcript.records)
        # float32 on disk.
        np.testing.assert_allclose(again.values, run.transcript.scores[statistic], atol=1e-4)


def test_claim_and_rows_do_not_depend_on_the_coins() -> None:
    first, second = train(seed=1), train(seed=2)
    assert (first.inside != second.inside).any()
    assert first.claim == second.claim
    assert first.claim.mechanism["sample_rate"] == RATE
    assert first.claim.mechanism["steps"] == STEPS
    assert len(slot_numbers(200, first.inside)) == len(slot_numbers(200, second.inside)) == 200 + CANARIES


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = train(), train()
    np.testing.assert_array_equal(first.transcript.scores["llr"], second.transcript.scores["llr"])
    assert all(torch.equal(a, b) for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True))


def test_canaries_move_no_weight_of_the_base_model() -> None:
    canaries = GradientCanaries(4)
    model = CanaryModel(nn.Linear(3, 2), canaries, max_grad_norm=0.5, seeds=Seeds(1), device="cpu")
    slots = torch.tensor([0, 2, -2])
    CanaryLoss(reduction="sum")(model(torch.randn(3, 3), slots), torch.zeros(3, dtype=torch.long)).backward()
    assert not model.base.weight.grad.any()
    np.testing.assert_allclose(model.head.weight.grad.numpy(), [[5.0, 0.0, 5.0, 0.0]])
    model.zero_grad()
    CanaryLoss(reduction="mean")(model(torch.randn(2, 3), torch.tensor([-1, -2])), torch.tensor([0, 1])).backward()
    assert model.base.weight.grad.any()
    assert not model.head.weight.grad.any()


def test_base_model_learns_beside_canaries() -> None:
    run = train(trainer=replace(TRAINER, noise_multiplier=0.5, learning_rate=1.0))
    data = blobs()
    with torch.no_grad():
        guessed = run.module(torch.from_numpy(data.features)).argmax(1).numpy()
    assert (guessed == data.labels).mean() > 0.8


def test_random_directions_are_unit_and_of_their_own() -> None:
    directions = GradientCanaries(30, "random", 12).directions(seeds=Seeds(4), device="cpu")
    np.testing.assert_allclose(directions.norm(dim=1), 1, rtol=1e-6)
    assert len(torch.unique(directions, dim=0)) == 30
    assert GradientCanaries(30).directions(seeds=Seeds(4), device="cpu") is None


def test_empty_batches_are_steps_too() -> None:
    tiny = replace(TRAINER, batch_size=1, nominal_rows=1000, epochs=0.04)
    run = train_with_canaries(
        tiny, blobs(20), GradientCanaries(10), statistics=ATTACK.accumulators(), seeds=Seeds(1), device="cpu"
    )
    assert run.transcript.steps == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count must be at least 1"),
        ({"kind": "sparse"}, "'dirac' or 'random'"),
        ({"dimension": 5}, "dirac"),
        ({"strength": 0.5}, "strength must be at least 1"),
        ({"kind": "random", "dimension": 1}, "dimension must be at least 2"),
    ],
)
def test_bad_canaries_are_refused(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        GradientCanaries(**options)


def test_bad_uses_are_refused(tmp_path) -> None:
    model = CanaryModel(nn.Linear(3, 2), GradientCanaries(4), max_grad_norm=1.0, seeds=Seeds(1), device="cpu")
    plain = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(IncompatibleError, match="max_grad_norm"):
        Recorder(model, plain, statistics=[])
    with pytest.raises(ConfigError, match="steps"):
        Recorder(model, plain, statistics=[], unit=1.0, store=tmp_path / "x.npy")
    with pytest.raises(IncompatibleError, match="no step"):
        Recorder(model, plain, statistics=[], unit=1.0).transcript()
    with pytest.raises(ConfigError, match="statistics only"):
        train().transcript.projections()
    with pytest.raises(IncompatibleError, match="one loss a row"):
        CanaryLoss(lambda out, y: out.sum())(model(torch.zeros(2, 3), torch.tensor([-1, 0])), torch.tensor([0, 0]))
    with pytest.raises(IncompatibleError, match="empty"):
        CanaryDataset(TensorDataset(torch.zeros(0, 2), torch.zeros(0)), np.array([True]))
    with pytest.raises(ConfigError, match="ghost"):
        train(trainer=replace(TRAINER, clipping="ghost"), make_private=no_noise)


def test_saturated_rows_have_no_gradient_and_the_canary_keeps_its_own() -> None:
    data = blobs(300)
    module = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    nn.init.zeros_(module[1].weight)
    nn.init.zeros_(module[1].bias)
    saturate(module, data.take(np.arange(150)), scale=30.0)

    def norms(labels: np.ndarray) -> np.ndarray:
        out = []
        for x, y in zip(data.features[150:], labels, strict=True):
            module.zero_grad()
            nn.functional.cross_entropy(module(torch.from_numpy(x[None])), torch.tensor([y])).backward()
            out.append(float(torch.cat([p.grad.ravel() for p in module.parameters()]).norm()))
        return np.array(out)

    assert np.median(norms(data.labels[150:])) < 1e-3
    assert np.median(norms((data.labels[150:] + 1) % 3)) > 1
    with pytest.raises(ConfigError, match="linear"):
        saturate(nn.Flatten(), data)


def test_guesses_of_a_run_are_better_than_chance() -> None:
    # Sum of 60 steps at q 0.05, sigma 1: d' about 0.35. 160 guesses; fixed seed, below 90 with probability < 1e-3.
    run = train()
    trials = CoinTrials(run.transcript.scores["llr"], run.inside, run.transcript.records)
    assert trials.count(160).correct >= 90
