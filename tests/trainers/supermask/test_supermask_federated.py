from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from leakgauge.audit.bounds.gaussian import gaussian_epsilon
from leakgauge.audit.canaries import CanaryHost, CanarySet
from leakgauge.audit.contracts.trainer import check_trainer
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.registry import TRAINERS
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Adjacency, PrivateTrainer, Rows, Unit
from leakgauge.trainers.federated.layout import Flat
from leakgauge.trainers.federated.rounds import Federation
from leakgauge.trainers.sgd import Sgd
from leakgauge.trainers.supermask.federated import DpFederatedSupermask, FederatedSupermask
from leakgauge.trainers.supermask.federation import fit_canaries
from leakgauge.trainers.supermask.response import bit_epsilon, composed_delta, response_claim
from leakgauge.trainers.supermask.rules import Rule
from leakgauge.trainers.supermask.server import BetaPosterior
from leakgauge.trainers.supermask.uploads import Upload, flips, sampled_bits

SMALL: dict[str, Any] = {"hidden": (16,), "clients": 5, "cohort": 5, "rounds": 4, "batch_size": 16}
FLIPS: dict[str, Any] = {**SMALL, "rule": "sign", "learning_rate": 0.02, "upload": "flips", "flip_budget": 30}
NOISY: dict[str, Any] = {"noise_multiplier": 2.0, "view": "global-models", "cohort": 2}
PRIVATE = {
    "scores": DpFederatedSupermask(**SMALL | {"upload": "scores"} | NOISY),
    "flips": DpFederatedSupermask(**FLIPS | NOISY),
    "bits": DpFederatedSupermask(**SMALL, clamp=0.2, masked_weights=192, view="updates"),
}


@pytest.mark.parametrize("trainer", [FederatedSupermask(**SMALL), *PRIVATE.values()])
def test_keeps_the_contract(trainer: Any, blobs: Rows, tmp_path: Path) -> None:
    check_trainer(trainer, blobs, tmp_path, seeds=Seeds(4))


def test_registered() -> None:
    assert TRAINERS.load("federated-supermask") is FederatedSupermask
    assert TRAINERS.load("dp-federated-supermask") is DpFederatedSupermask
    assert not isinstance(FederatedSupermask(), PrivateTrainer)
    assert all(isinstance(t, PrivateTrainer) for t in PRIVATE.values())


def accuracy(trainer: Any, data: Rows, rows: Any) -> float:
    trained = trainer.fit(data, rows, seeds=Seeds(1), device="cpu")
    answers = trained.target.log_probabilities(data.features[~rows]).argmax(1)
    return float((answers == data.labels[~rows]).mean())


@pytest.mark.slow
def test_fedpm_learns_digits(digits: Rows) -> None:
    """The issue's target, 10 clients, 15 rounds, frozen random 64-256-256-10: 0.93; seen 0.954."""
    rows = Seeds(0).generator().random(len(digits)) < 0.75
    assert accuracy(FederatedSupermask(), digits, rows) >= 0.93


@pytest.mark.slow
def test_a_network_that_knows_five_digits_is_masked_to_know_ten(digits: Rows, tmp_path: Path) -> None:
    """The issue's target is 0.92; seen 0.946. The network alone: 0.435."""
    rows = Seeds(0).generator().random(len(digits)) < 0.75
    known = Sgd(hidden=(256, 256), epochs=15, learning_rate=0.05)
    known.save(known.fit(digits, rows & (digits.labels < 5), seeds=Seeds(3), device="cpu"), tmp_path)
    path = str(tmp_path / "model.safetensors")
    trainer = FederatedSupermask(frozen="model", frozen_weights=path, frozen_gain=2.0, fresh_head=True)
    assert accuracy(known, digits, rows & (digits.labels < 5)) < 0.6
    assert accuracy(trainer, digits, rows) >= 0.92


@pytest.mark.parametrize(("upload", "merge"), [("bits", "beta"), ("bits", "mean"), ("scores", "mean")])
def test_learns_and_counts_what_travels(upload: Any, merge: Any, blobs: Rows) -> None:
    trainer = FederatedSupermask(**SMALL | {"rounds": 8}, upload=upload, merge=merge)
    metrics = trainer.fit(blobs, np.ones(120, np.bool_), seeds=Seeds(1), device="cpu").metrics
    weights = 16 * 8 + 16 * 4
    assert metrics["train_accuracy"] > 0.8
    assert metrics["bits_per_parameter"] == (1 if upload == "bits" else 32)
    assert metrics["upload_bytes"] == 8 * 5 * weights * metrics["bits_per_parameter"] / 8


def test_flips_stay_within_the_budget_and_are_cheap(blobs: Rows) -> None:
    trainer = FederatedSupermask(**FLIPS, view="updates")
    trained = trainer.fit(blobs, np.ones(120, np.bool_), seeds=Seeds(1), device="cpu")
    assert trained.transcript is not None
    sent = trained.transcript["updates"]
    assert set(np.unique(sent)) <= {-1.0, 0.0, 1.0}
    assert 0 < np.abs(sent).sum(1).max() <= 30
    assert trained.metrics["bits_per_parameter"] < 2


def test_flips_are_the_largest_moves() -> None:
    before, after = np.array([1.0, -1, -1, 1, 0.5]), np.array([-0.2, 3, -2, 2, -0.1])
    assert np.array_equal(flips(before, after, 2), [-1, 1, 0, 0, 0])
    assert np.array_equal(flips(before, after, 9), [-1, 1, 0, 0, -1])


def test_beta_posterior_of_uniform_prior_is_the_share_of_ones() -> None:
    posterior = BetaPosterior(np.ones(3), np.ones(3)).after(np.array([0.0, 2, 5]), 5)
    assert np.allclose(posterior.mode(), [0, 0.4, 1])
    assert np.allclose(posterior.after(np.array([5.0, 3, 0]), 5).mode(), 0.5)
    assert np.allclose(BetaPosterior(np.ones(2), np.ones(2)).mode(), 0.5)


def test_the_server_turns_bits_into_clamped_log_odds(blobs: Rows) -> None:
    """Oracle: one round, the share of ones of the uploads, clamped to [1/(2n), 1 - 1/(2n)]."""
    trainer = FederatedSupermask(**SMALL | {"rounds": 1}, view="updates")
    sent = trainer.fit(blobs, np.ones(120, np.bool_), seeds=Seeds(1), device="cpu").transcript
    assert sent is not None
    expected = logit(np.clip(sent["updates"].mean(0), 0.1, 0.9))
    assert np.allclose(sent["models"][1], expected, atol=1e-5)


def test_clamped_bits_have_clamped_chances() -> None:
    """20000 draws: each share within 5 standard errors (0.0177) of 1/2 +- clamp; fails by chance 1e-6 of the time."""
    for theta, chance in ((1.0, 0.7), (0.0, 0.3), (0.6, 0.6)):
        assert abs(sampled_bits(np.full(20000, theta), 0.2, seeds=Seeds(7)).mean() - chance) < 0.0177
    assert sampled_bits(np.ones(100), None, seeds=Seeds(7)).all()
    upload = Upload("bits", clamp=0.2)
    drawn = upload.of(np.zeros(20000), np.full(20000, 9.0), Rule("threshold"), seeds=Seeds(3)).mean()
    assert abs(drawn - 0.7) < 0.0177
    assert abs(Upload("bits").of(np.zeros(20000), np.ones(20000), Rule(), seeds=Seeds(3)).mean() - expit(1)) < 0.0177


@pytest.mark.parametrize("bits", [1, 2, 5, 12])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.1, 2.5, 20.0])
def test_composition_equals_enumeration(bits: int, epsilon: float) -> None:
    """Oracle: the hockey-stick divergence summed over every outcome of independent bits."""
    high, low = 0.5 + 0.15, 0.5 - 0.15
    exact = 0.0
    for outcome in range(2**bits):
        ones = bin(outcome).count("1")
        p = high**ones * low ** (bits - ones)
        q = low**ones * high ** (bits - ones)
        exact += max(0.0, p - np.exp(epsilon) * q)
    assert composed_delta(epsilon, 0.15, bits) == pytest.approx(exact, abs=1e-12)


def test_many_weak_bits_approach_a_gaussian() -> None:
    """mu = sqrt(n) 4 c to first order (central limit theorem of Dong, Roth, Su 2019)."""
    claim = response_claim(0.001, 250_000, 1.0, 1, 1e-5)
    assert claim.epsilon == pytest.approx(gaussian_epsilon(0.002 * 2 * 500, 1e-5), rel=0.02)


def test_response_claim_is_per_client_and_grows() -> None:
    one, many = response_claim(0.1, 50, 1.0, 1, 1e-5), response_claim(0.1, 50, 1.0, 10, 1e-5)
    assert one.unit is Unit.CLIENT
    assert one.adjacency is Adjacency.REPLACE_ONE
    assert one.epsilon <= 50 * bit_epsilon(0.1)
    assert one.epsilon < many.epsilon
    assert composed_delta(one.epsilon, 0.1, 50) <= 1e-5
    times = np.arange(1, 11)
    half = response_claim(0.1, 50, 0.5, 10, 1e-5)
    mean = stats.binom.pmf(times, 10, 0.5) @ [composed_delta(half.epsilon, 0.1, 50 * int(k)) for k in times]
    assert mean <= 1e-5
    assert one.epsilon < half.epsilon < many.epsilon


def test_claims_of_noise_are_those_of_the_view() -> None:
    flips_claim = PRIVATE["flips"].planned_claim(0)
    scores_claim = PRIVATE["scores"].planned_claim(0)
    assert flips_claim.epsilon == scores_claim.epsilon
    assert flips_claim.unit is Unit.CLIENT
    protection = PRIVATE["flips"].protection()
    assert protection is not None
    assert protection.clip == pytest.approx(30**0.5)
    calibrated = DpFederatedSupermask(**FLIPS | {"cohort": 2, "view": "global-models"}, epsilon=3.0)
    assert 2.9 < calibrated.planned_claim(0).epsilon <= 3.0


def test_the_claim_of_bits_knows_the_number_of_weights(blobs: Rows) -> None:
    trained = PRIVATE["bits"].fit(blobs, np.ones(120, np.bool_), seeds=Seeds(1), device="cpu")
    assert trained.claim is not None
    assert trained.claim.mechanism["bits"] == 192
    assert trained.claim.epsilon == response_claim(0.2, 192, 1.0, 4, 1e-5).epsilon
    with pytest.raises(IncompatibleError, match="192 masked weights"):
        replace(PRIVATE["bits"], masked_weights=100).fit(blobs, np.ones(120, np.bool_), seeds=Seeds(1), device="cpu")


def test_mistakes_are_named() -> None:
    for wrong, words in (
        ({"upload": "flips"}, "flip_budget"),
        ({"head": "trained"}, "cannot travel as bits"),
        ({"rule": "top-k"}, "upload 'scores'"),
        ({"merge": "median"}, "merge"),
        ({"partition": "natural"}, "iid"),
    ):
        with pytest.raises(ConfigError, match=words):
            FederatedSupermask(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="not differential privacy"):
        DpFederatedSupermask()
    with pytest.raises(ConfigError, match="clamp"):
        DpFederatedSupermask(clamp=0.7, masked_weights=5)
    with pytest.raises(ConfigError, match="masked_weights"):
        DpFederatedSupermask(clamp=0.2)
    with pytest.raises(ConfigError, match="protects nobody"):
        DpFederatedSupermask(upload="scores", noise_multiplier=1.0, view="updates")
    assert "not differential privacy" in FederatedSupermask().notes()[0]


class Unclipped(Federation):
    """A broken server: what clients send is added up as it comes."""

    def round_sum(self, number: int, asked: Any, answered: int) -> Any:
        """The sum with a clip that nothing reaches."""
        held, self.clip = self.clip, 1e9
        try:
            return Federation.round_sum(self, number, asked, answered)
        finally:
            self.clip = held


@pytest.mark.parametrize("upload", ["scores", "flips"])
def test_canary_clients_are_seen_as_the_noise_allows(upload: str, blobs: Rows) -> None:
    """Correct: a canary that takes part adds 1 clip, and noise of 2 clips hides it. Unclipped: it stands out."""
    trainer = PRIVATE[upload]
    assert isinstance(trainer, CanaryHost)
    assert trainer.hosts()
    inside = Seeds(5).generator().random(40) < 0.5
    canaries = CanarySet("client-orthogonal", inside, Unit.CLIENT, "global-models", {"strength": 10.0})
    seen = trainer.fit_with_canaries(blobs, np.ones(120, np.bool_), canaries, seeds=Seeds(2), device="cpu")
    assert seen.claim == trainer.planned_canary_claim(0, canaries)
    rows: Flat = seen.transcript["projections"]
    assert rows.shape == (4, 40)
    assert 1.0 < rows.std() < 4.0
    broken = fit_canaries(
        trainer.federation(),
        trainer.schedule(40),
        blobs,
        np.ones(120, np.bool_),
        canaries,
        claim=seen.claim,
        seeds=Seeds(2),
        device="cpu",
        kind=Unclipped,
    ).transcript["projections"]
    score = broken.max(0)
    assert score[inside].min() > score[~inside].max() or score[inside].mean() > 3
