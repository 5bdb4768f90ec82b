from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from leakgauge.audit.contracts.trainer import check_trainer
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.registry import TRAINERS
from leakgauge.audit.releases import ReleasesUpdates
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Job, PrivateTrainer, Rows, StackedTrainer
from leakgauge.trainers.sampling import batch_stream
from leakgauge.trainers.supermask.private import DpSupermask, sum_of_clipped
from leakgauge.trainers.supermask.trainer import Supermask

SMALL: dict[str, Any] = {"hidden": (24,), "batch_size": 16}
PRIVATE = DpSupermask(**SMALL, rule="sign", learning_rate=0.02, noise_multiplier=1.0, epochs=4, nominal_rows=60)


@pytest.mark.parametrize("trainer", [Supermask(**SMALL, epochs=8), PRIVATE])
def test_keeps_the_contract(trainer: Any, blobs: Rows, tmp_path: Path) -> None:
    check_trainer(trainer, blobs, tmp_path, seeds=Seeds(4))


def test_registered() -> None:
    assert TRAINERS.load("supermask") is Supermask
    assert TRAINERS.load("dp-supermask") is DpSupermask
    assert isinstance(Supermask(), StackedTrainer)
    assert isinstance(PRIVATE, PrivateTrainer)
    assert isinstance(PRIVATE, ReleasesUpdates)
    assert isinstance(Supermask(), ReleasesUpdates)


@pytest.mark.parametrize("rule", ["bernoulli", "top-k", "threshold", "sign"])
def test_a_mask_alone_learns(rule: Any, blobs: Rows) -> None:
    trainer = Supermask(**SMALL, rule=rule, epochs=20, learning_rate=0.1 if rule == "bernoulli" else 0.02)
    trained = trainer.fit(blobs, np.ones(len(blobs), np.bool_), seeds=Seeds(1), device="cpu")
    assert trained.metrics["train_accuracy"] > 0.9
    assert trained.claim is None


def test_equals_a_naive_loop_with_torch_adam(blobs: Rows) -> None:
    trainer, job = Supermask(**SMALL, epochs=3), Job(np.arange(len(blobs)) % 3 > 0, Seeds(9))
    module = trainer.fresh_model(blobs, seeds=job.seeds, device="cpu")
    adam = torch.optim.Adam([module.scores], lr=0.1)
    draws = job.seeds.at("masks").torch_generator()
    rows = np.flatnonzero(job.inside)
    stream = batch_stream(rows, sampling="shuffle", batch_size=16, sample_rate=0, seeds=job.seeds)
    for batch in stream.take(trainer.planned_steps(len(rows))).each():
        module.uniform.copy_(torch.rand(module.uniform.shape, generator=draws))
        adam.zero_grad()
        cross_entropy(module(torch.from_numpy(blobs.features[batch])), torch.from_numpy(blobs.labels[batch])).backward()
        adam.step()
    trained = trainer.fit(blobs, job.inside, seeds=job.seeds, device="cpu")
    # Rounding may flip a bit whose score is at zero.
    assert float((trained.model.bits() == module.bits()).float().mean()) > 0.995


def test_stacked_models_are_those_trained_alone(blobs: Rows) -> None:
    generator = Seeds(6).generator()
    jobs = [Job(generator.random(len(blobs)) < 0.5, Seeds(6).at(k)) for k in range(3)]
    trainer = Supermask(**SMALL, epochs=3, entropy_penalty=0.01)
    for job, together in zip(jobs, trainer.fit_many(blobs, jobs, device="cpu"), strict=True):
        alone = trainer.fit(blobs, job.inside, seeds=job.seeds, device="cpu")
        assert together.steps == alone.steps
        assert float((together.model.bits() == alone.model.bits()).float().mean()) > 0.99


def test_sparsity_target_is_met(blobs: Rows) -> None:
    rows = np.ones(len(blobs), np.bool_)
    sparse = Supermask(**SMALL, epochs=20, sparsity_penalty=50.0, sparsity_target=0.2)
    assert sparse.fit(blobs, rows, seeds=Seeds(1), device="cpu").metrics["kept"] < 0.3
    assert Supermask(**SMALL, epochs=20).fit(blobs, rows, seeds=Seeds(1), device="cpu").metrics["kept"] > 0.35


def test_a_stored_mask_is_bits_and_needs_its_weights(blobs: Rows, tmp_path: Path) -> None:
    trainer = Supermask(**SMALL, epochs=1)
    trained = trainer.fit(blobs, np.ones(len(blobs), np.bool_), seeds=Seeds(1), device="cpu")
    trainer.save(trained, tmp_path)
    weights = 24 * 8 + 24 * 4
    assert (tmp_path / "mask.safetensors").stat().st_size < weights // 8 + 400
    with pytest.raises(IncompatibleError, match="frozen"):
        Supermask(**SMALL, epochs=1, frozen_seed=1).load(tmp_path, blobs, device="cpu")


def test_clipped_sum_is_that_of_records_one_by_one(blobs: Rows) -> None:
    module = PRIVATE.fresh_model(blobs, seeds=Seeds(2), device="cpu")
    x, y = torch.from_numpy(blobs.features[:7]), torch.from_numpy(blobs.labels[:7])
    total = torch.zeros(len(module.scores))
    for i in range(7):
        (gradient,) = torch.autograd.grad(cross_entropy(module(x[i : i + 1]), y[i : i + 1]), [module.scores])
        total += gradient * min(1.0, 0.3 / float(gradient.norm()))
    assert torch.allclose(sum_of_clipped(module, x, y, 0.3), total, atol=1e-5)
    assert not sum_of_clipped(module, x[:0], y[:0], 0.3).any()


def test_private_claim_and_twin(blobs: Rows) -> None:
    trained = PRIVATE.fit(blobs, np.ones(len(blobs), np.bool_), seeds=Seeds(1), device="cpu")
    assert trained.claim == PRIVATE.planned_claim(3)
    assert trained.claim is not None
    assert trained.claim.mechanism["steps"] == trained.steps == 15
    assert PRIVATE.unprotected().sampling == "poisson"
    calibrated = DpSupermask(**SMALL, epsilon=3.0, epochs=4, nominal_rows=60)
    assert 2.9 < calibrated.planned_claim(0).epsilon <= 3.0


def test_mistakes_are_named(blobs: Rows) -> None:
    with pytest.raises(ConfigError, match="bernouli"):
        Supermask(rule="bernouli")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="sparsity_target"):
        Supermask(sparsity_penalty=1.0)
    with pytest.raises(ConfigError, match="either epsilon or noise_multiplier"):
        DpSupermask()
    with pytest.raises(ConfigError, match="nominal_rows"):
        DpSupermask(noise_multiplier=1.0).fit(blobs, np.ones(120, np.bool_), seeds=Seeds(1), device="cpu")
    with pytest.raises(ConfigError, match="no training rows"):
        Supermask().fit(blobs, np.zeros(120, np.bool_), seeds=Seeds(1), device="cpu")
