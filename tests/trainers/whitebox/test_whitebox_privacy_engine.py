from __future__ import annotations

import numpy as np
import pytest
import torch
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from leakgauge.attacks.canary.gradient import GradientCanary
from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.whitebox import CanaryDataset, CanaryLoss, CanaryModel, GradientCanaries, Recorder

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS, CANARIES, BATCH = 200, 200, 20


def record(mode: str, noise: float, tmp_path) -> tuple[np.ndarray, np.ndarray, PrivacyEngine]:
    """A user's own loop with `make_private`: two epochs; projections (steps, canaries), coins, engine."""
    seeds = Seeds(3)
    with seeds.torch_scope():
        canaries = GradientCanaries(CANARIES)
        inside = canaries.coins(seeds=seeds.at("coins")).inside[0]
        data = CanaryDataset(TensorDataset(torch.randn(ROWS, 5), torch.randint(3, (ROWS,))), inside)
        model = CanaryModel(nn.Linear(5, 3), canaries, max_grad_norm=1.0, seeds=seeds, device="cpu")
        engine, loss = PrivacyEngine(), CanaryLoss()
        module, optimizer, *rest = engine.make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            criterion=loss,
            data_loader=DataLoader(data, batch_size=BATCH),
            noise_multiplier=noise,
            max_grad_norm=1.0,
            grad_sample_mode=mode,
        )
        criterion, loader = (rest[0] if mode == "ghost" else loss), rest[-1]
        attack = GradientCanary(BATCH / (ROWS + CANARIES), max(noise, 0.1))
        recorder = Recorder(
            module._module, optimizer, statistics=attack.accumulators(), store=tmp_path / f"{mode}.npy", steps=100
        )
        for _ in range(2):
            for features, labels, slots in loader:
                optimizer.zero_grad()
                criterion(module(features, slots), labels).backward()
                optimizer.step()
        transcript = recorder.transcript()
    assert transcript.steps == 40
    assert engine.accountant.history == [(noise, BATCH / (ROWS + CANARIES), 40)]
    return transcript.projections(), inside, engine


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_a_users_own_engine_releases_who_was_sampled_when_noise_is_off(mode, tmp_path) -> None:
    seen, inside, _ = record(mode, 0.0, tmp_path)
    assert set(np.unique(np.round(seen, 3))) == {0.0, 1.0}
    assert not seen[:, ~inside].any()
    # 40 steps of about 100 inserted canaries at rate 0.05: 200 expected, sd 14; fixed seed.
    assert 130 < seen.round().sum() < 270


def test_noise_has_the_claimed_size(tmp_path) -> None:
    seen, inside, _ = record("hooks", 2.0, tmp_path)
    # About 4000 draws: the standard deviation's own is 1.1 %; fixed seed, 5 %.
    assert np.std(seen[:, ~inside]) == pytest.approx(2.0, rel=0.05)
