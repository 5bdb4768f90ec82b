"""Images from masks: exact where algebra says so, nothing where noise says so, and never more than a claim allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from leakgauge.attacks.mask.candidates import MaskCandidates, likeliest
from leakgauge.attacks.mask.decoding import direction, image_of, image_of_signs, law_of, posterior_mean
from leakgauge.attacks.mask.inversion import MaskInversion
from leakgauge.attacks.mask.matching import bits_misfit, score_gradient
from leakgauge.attacks.mask.uploads import chances, moves, moves_of_flips
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.games import Game, Outcome, Stage
from leakgauge.audit.registry import ATTACKS
from leakgauge.audit.releases import ReleasesUpdates, SendsUploads, UploadFacts
from leakgauge.audit.rules import RULES
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, Rows
from leakgauge.trainers.sgd import Sgd
from leakgauge.trainers.supermask.federated import DpFederatedSupermask, FederatedSupermask
from leakgauge.trainers.supermask.private import DpSupermask
from leakgauge.trainers.supermask.trainer import Supermask
from leakgauge.trainers.supermask.training import flatten

WIDE: dict[str, Any] = {"hidden": (96,)}
SCORES = FederatedSupermask(**WIDE, upload="scores")
FLIPS = FederatedSupermask(**WIDE, upload="flips", flip_budget=4000)


def play(game: Any, trainer: Any, rows: Rows, folder: Path) -> Outcome:
    folder.mkdir(exist_ok=True)
    private, public = rows.take(np.arange(100)), rows.take(np.arange(100, len(rows)))
    stage = Stage(
        trainer,
        public,
        private,
        np.ones(100, np.bool_),
        lambda: None,  # type: ignore[arg-type,return-value]
        None,
        Access.GRADIENTS,
        "cpu",
        0.95,
        folder,
    )
    return game.play(stage, seeds=Seeds(5))  # type: ignore[no-any-return]


def gain(outcome: Outcome) -> float:
    """PSNR in dB above the mean public image."""
    psnr = outcome.measures["psnr"]
    assert psnr.baseline is not None
    return psnr.value - psnr.baseline.value


def test_they_are_games() -> None:
    for game in (MaskInversion(), MaskCandidates()):
        assert isinstance(game, Game)
        assert ATTACKS.load(game.name) is type(game)
        assert f"{game.family}.{game.name}" in RULES
    assert isinstance(SCORES, SendsUploads)
    assert isinstance(DpFederatedSupermask(clamp=0.1, masked_weights=5), SendsUploads)
    assert not isinstance(Supermask(), SendsUploads)
    assert isinstance(Supermask(), ReleasesUpdates)


@pytest.mark.parametrize("rule", ["bernoulli", "sign", "top-k", "threshold"])
def test_the_score_gradient_of_one_record_is_the_image(rule: Any, digits: Rows, tmp_path: Path) -> None:
    outcome = play(MaskInversion(victims=6), Supermask(**WIDE, rule=rule), digits, tmp_path)
    assert outcome.measures["exact_share"].value >= 0.8
    assert gain(outcome) > 60


def test_what_clients_send_shows_as_much_as_it_must(digits: Rows, tmp_path: Path) -> None:
    """Plain gradient steps: the image. Adam: the sign of each pixel, which flips show as well. Sampled bits: little in
    one upload, more in many."""
    plain = FederatedSupermask(**WIDE, upload="scores", optimizer="sgd", learning_rate=1.0)
    bits = FederatedSupermask(**WIDE)
    assert gain(play(MaskInversion(victims=6), plain, digits, tmp_path / "1")) > 25
    assert 4 < gain(play(MaskInversion(victims=6), SCORES, digits, tmp_path / "2")) < 15
    assert 4 < gain(play(MaskInversion(victims=6), FLIPS, digits, tmp_path / "3")) < 15
    one = gain(play(MaskInversion(victims=6), bits, digits, tmp_path / "4"))
    many = gain(play(MaskInversion(victims=6, uploads=30), bits, digits, tmp_path / "5"))
    assert one < 3 < many


def test_noise_and_clamps_hide_the_image(digits: Rows, tmp_path: Path) -> None:
    step = DpSupermask(**WIDE, rule="sign", noise_multiplier=1.0, nominal_rows=100)
    assert gain(play(MaskInversion(victims=6), step, digits, tmp_path / "1")) < 2
    clamped = DpFederatedSupermask(**WIDE, clamp=0.005, masked_weights=96 * 74, view="updates")
    outcome = play(MaskInversion(victims=6), clamped, digits, tmp_path / "2")
    assert gain(outcome) < 2
    assert "one bit a weight" in outcome.threat["holds"]
    assert "every bit's chance between 0.495 and 0.505" in outcome.threat["holds"]


def test_matching_finds_images_where_the_mask_is_known(digits: Rows, tmp_path: Path) -> None:
    trainer = FederatedSupermask(
        hidden=(32,), upload="scores", optimizer="sgd", rule="sign", local_epochs=1, learning_rate=0.1
    )
    game = MaskInversion(victims=2, batch_size=2, method="matching", iterations=250, total_variation=0.01)
    assert gain(play(game, trainer, digits, tmp_path)) > 3


def test_mistakes_are_named(digits: Rows, tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="needs a model with a mask"):
        play(MaskInversion(victims=1), Sgd(hidden=(8,), epochs=1), digits, tmp_path)
    with pytest.raises(IncompatibleError, match="use method 'matching'"):
        play(MaskInversion(victims=1), FederatedSupermask(model="cnn"), digits, tmp_path)
    with pytest.raises(IncompatibleError, match="use method 'matching'"):
        play(MaskInversion(victims=1), FederatedSupermask(**WIDE, place="outputs"), digits, tmp_path)
    with pytest.raises(ConfigError, match="reads one record"):
        MaskInversion(batch_size=2)
    with pytest.raises(IncompatibleError, match="send no masks"):
        play(MaskCandidates(), Supermask(), digits, tmp_path)
    with pytest.raises(ConfigError, match="lower pool"):
        play(MaskCandidates(pool=200), SCORES, digits, tmp_path)


@pytest.fixture(scope="module")
def faces() -> np.ndarray[Any, Any]:
    """Correlated vectors (400, 24) that are not centred."""
    generator = Seeds(2).generator()
    basis = generator.normal(size=(5, 24))
    return np.asarray(generator.normal(size=(400, 5)) @ basis + 0.3 * generator.normal(size=(400, 24)) + 1.0)


def test_a_matrix_of_rank_one_is_read_exactly(faces: Any) -> None:
    deltas = Seeds(3).generator().normal(size=60)
    found = image_of(np.outer(deltas, faces[0]), faces[1:])
    assert abs(np.corrcoef(found, faces[0])[0, 1]) > 1 - 1e-9
    assert direction(np.outer(deltas, faces[0])) is not None
    assert direction(np.outer(deltas, faces[0]) + 1e-3 * Seeds(4).generator().normal(size=(60, 24))) is None


def test_in_noise_the_posterior_is_that_of_known_deltas_or_the_law(faces: Any) -> None:
    """Oracle: with deltas and noise known the posterior of z is normal, in closed form; the variational law, which
    knows neither, comes near it. In noise alone it stays near the law's mean."""
    generator, law = Seeds(5).generator(), law_of(faces[50:])
    near, far = [], []
    for z in faces[:30]:
        deltas = generator.normal(size=80)
        matrix = np.outer(deltas, z) + 2.0 * generator.normal(size=(80, 24))
        inverse = np.linalg.inv(law.covariance)
        energy = float(deltas @ deltas) / 4
        best = np.linalg.solve(inverse + energy * np.eye(24), inverse @ law.mean + deltas @ matrix / 4)
        found = posterior_mean(matrix, law)
        near.append(np.square(found - z).mean() / np.square(best - z).mean())
        noise = posterior_mean(2.0 * generator.normal(size=(80, 24)), law)
        far.append(np.square(noise - law.mean).mean() / np.square(z - law.mean).mean())
    # The scale of deltas is not known, which costs something.
    assert np.median(near) < 4
    assert np.median(far) < 1


def test_signs_are_turned_into_likely_images(faces: Any) -> None:
    deltas = np.sign(Seeds(6).generator().normal(size=60))
    errors, prior = [], []
    for z in faces[:30]:
        found = image_of_signs(np.outer(deltas, np.sign(z)), faces[50:])
        errors.append(np.square(found - z).mean())
        prior.append(np.square(faces[50:].mean(0) - z).mean())
    assert np.mean(errors) < 0.5 * np.mean(prior)


def facts(kind: str, *, smooth: bool = True, clamp: float | None = None, optimizer: str = "adam") -> UploadFacts:
    return UploadFacts(kind, smooth, clamp, None, optimizer, 0.1, 3, None, "an upload")


def test_uploads_are_read_as_moves() -> None:
    start = np.array([0.0, 2.0, -1.0])
    sent = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    assert np.allclose(moves(sent, start, facts("scores")), sent.mean(0))
    assert np.allclose(moves(sent, start, facts("bits")), sent.mean(0) - 1 / (1 + np.exp(-start)))
    assert np.allclose(chances(start, facts("bits", clamp=0.1)), [0.5, 0.6, 0.4])
    assert np.allclose(chances(start, facts("bits", smooth=False, clamp=0.1)), [0.4, 0.6, 0.4])
    # Thresholded bits: the first came on; the others lie beyond three steps of 0.1 and could not have changed.
    assert np.allclose(moves(np.array([[1.0, 1.0, 0.0]]), start, facts("bits", smooth=False)), [1, 0, 0])
    assert np.allclose(
        moves_of_flips(np.array([1.0, -1.0, 0.0, 0.0]), np.array([0, 0.1, -0.1, 3]), 0.3), [1, -1, -1, 0]
    )


def test_the_misfit_of_bits_is_their_log_likelihood() -> None:
    scores, bits = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([1.0, 0.0, 0.0])
    expected = -torch.distributions.Bernoulli(logits=scores).log_prob(bits).mean()
    assert torch.allclose(bits_misfit(scores, bits), expected)


def test_the_attackers_gradient_is_the_clients_on_average(digits: Rows) -> None:
    """One plain gradient step of a client whose mask is not drawn moves scores by exactly minus the gradient."""
    trainer = FederatedSupermask(
        hidden=(16,), upload="scores", optimizer="sgd", learning_rate=0.5, rule="sign", local_epochs=1
    )
    module = trainer.fresh_model(digits, seeds=Seeds(1), device="cpu")
    x, y = torch.from_numpy(digits.features[:3]), torch.from_numpy(digits.labels[:3])
    moved = trainer.client_uploads(module, x[None], y[None], uploads=1, seeds=Seeds(2))[0, 0]
    assert np.allclose(moved, -0.5 * score_gradient(module, x, y).detach().numpy(), atol=1e-6)
    scores = trainer.client_scores(module, x[None], y[None], draws=1, seeds=Seeds(2))[0, 0]
    assert np.allclose(scores, flatten(module).numpy() + moved, atol=1e-6)


def test_uploads_of_single_clients_are_clipped_noised_and_sampled_as_claimed(digits: Rows) -> None:
    """Clip 1 and noise of 4 clips: 1200 coordinates, so the deviation of 4 is known to 2 %; 5 standard errors."""
    x, y = torch.from_numpy(digits.features[:2])[:, None], torch.from_numpy(digits.labels[:2])[:, None]
    noisy = DpFederatedSupermask(
        hidden=(16,), upload="scores", noise="local", noise_multiplier=4.0, clip=1.0, view="updates"
    )
    module = noisy.fresh_model(digits, seeds=Seeds(1), device="cpu")
    sent = noisy.client_uploads(module, x, y, uploads=2, seeds=Seeds(2))
    assert sent.shape == (2, 2, 16 * 74)
    assert sent.std() == pytest.approx(4.0, rel=0.1)
    assert not np.allclose(sent[0, 0], sent[0, 1])
    told = noisy.upload_facts(1, 16 * 74, 1e-5)
    assert told.clip == 1.0
    assert told.claim is not None
    assert told.claim.mechanism["noise_multiplier"] == 2.0
    clamped = DpFederatedSupermask(hidden=(16,), clamp=0.1, masked_weights=16 * 74, view="updates")
    bits = clamped.client_uploads(module, x, y, uploads=2, seeds=Seeds(2))
    assert set(np.unique(bits)) == {0.0, 1.0}
    assert clamped.upload_facts(1, 16 * 74, 1e-5).claim == clamped.upload_facts(7, 16 * 74, 1e-5).claim
    central = DpFederatedSupermask(hidden=(16,), upload="scores", noise_multiplier=4.0)
    assert central.upload_facts(1, 16 * 74, 1e-5).claim is None


def test_the_likeliest_candidate_is_the_most_probable_one() -> None:
    """Oracle: probabilities of the bits multiplied out; a tie names nobody."""
    theta = np.array([[0.9, 0.2, 0.6], [0.3, 0.8, 0.5], [0.5, 0.5, 0.5]])
    for number in range(8):
        bits = np.array([number & 1, number >> 1 & 1, number >> 2 & 1], np.float64)
        chance = np.prod(np.where(bits == 1, theta, 1 - theta), axis=1)
        assert likeliest(bits, theta, facts("bits")) == int(chance.argmax())
    assert likeliest(bits, np.stack([theta[0], theta[0]]), facts("bits")) == -1
    assert likeliest(np.array([0.9, 0.1]), np.eye(2), facts("scores")) == 0


def test_candidates_are_named_no_more_often_than_the_claim_allows(digits: Rows, tmp_path: Path) -> None:
    """150 trials of 10. Scores in the clear: nearly always. Bits clamped to 0.002: epsilon 0.6 at most, success below
    0.2 by the claim, above which 150 trials come by chance less than 1e-4 of the time where 0.12 is the truth."""
    few = {"hidden": (16,), "local_epochs": 1}
    open_scores = play(MaskCandidates(trials=150), FederatedSupermask(**few, upload="scores"), digits, tmp_path)
    assert open_scores.measures["success"].value > 0.6
    assert open_scores.trials is not None
    assert open_scores.trials.counts.hits == round(150 * open_scores.measures["success"].value)
    assert open_scores.trials.redrawn.hits < 40
    clamped = DpFederatedSupermask(**few, clamp=0.002, masked_weights=16 * 74, view="updates")
    outcome = play(MaskCandidates(trials=150), clamped, digits, tmp_path)
    limit = outcome.measures["largest_possible_success"].value
    assert limit < 0.3
    success = outcome.measures["success"]
    assert success.low is not None
    assert success.low <= limit
    assert outcome.trials is not None
    assert outcome.trials.claim == clamped.upload_facts(1, 16 * 74, 1e-5).claim


def test_a_claim_about_sums_is_not_tested_on_single_uploads(digits: Rows, tmp_path: Path) -> None:
    """Central noise protects the sum: one upload is seen in the clear, and the claim says nothing of it."""
    trainer = DpFederatedSupermask(hidden=(16,), upload="scores", noise_multiplier=4.0)
    stage = Stage(
        trainer,
        digits.take(np.arange(100, 200)),
        digits.take(np.arange(100)),
        np.ones(100, np.bool_),
        lambda: None,  # type: ignore[arg-type,return-value]
        trainer.planned_claim(0),
        Access.GRADIENTS,
        "cpu",
        0.95,
        tmp_path,
    )
    assert MaskCandidates(trials=20).play(stage, seeds=Seeds(1)).trials is None
