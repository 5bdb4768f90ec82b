"""Real Opacus against the simulations that stand for it in the many repeats: Kolmogorov-Smirnov tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import PrivacyEngine
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ...audit.seeds import Seeds
from .. import opacus_normalisation as normalisation
from .. import shuffle
from .games import NOISE, simulated_variances
from .opacus_subject import CanaryGame
from .opacus_trainer import FULL, OpacusTrainer

LEVEL = 1e-4
"""Below this p value the simulation is taken for wrong."""
SHUFFLE_STEPS, SHUFFLE_BATCH = 20, 2


@dataclass(frozen=True, slots=True)
class Agreement:
    """One comparison: how many real and simulated scores, and the two-sample p value."""

    name: str
    real: int
    simulated: int
    p_value: float

    @property
    def holds(self) -> bool:
        """The scores may well be of one law."""
        return self.p_value >= LEVEL


def agreements(*, seeds: Seeds) -> list[Agreement]:
    """All simulations against the real thing."""
    return [*canaries(seeds=seeds.at("canaries")), *shuffled(seeds=seeds.at("shuffle")), variances(seeds=seeds)]


def canaries(*, seeds: Seeds) -> list[Agreement]:
    """Likelihood ratios of 5000 canaries of one real run, inserted and not."""
    fit = OpacusTrainer().fit(FULL, seeds=seeds.at("real"))
    simulated = CanaryGame().simulated_scores(fit.inside, seeds=seeds.at("simulated"))
    return [
        _compare(
            f"canaries {'in' if there else 'out'}", fit.scores[fit.inside == there], simulated[fit.inside == there]
        )
        for there in (True, False)
    ]


def shuffled(*, seeds: Seeds, runs: int = 200) -> list[Agreement]:
    """The largest release of an epoch by `make_private(poisson_sampling=False)` on the worst case of the game."""
    found = []
    for there in (True, False):
        real = np.array([largest_shuffled(there, seeds=seeds.at(there, i)) for i in range(runs)])
        law = shuffle.largest_steps("shuffle", there, 4000, seeds=seeds.at("law", there), steps=SHUFFLE_STEPS)
        found.append(_compare(f"shuffle, record {'in' if there else 'out'}", real, law.astype(np.float64)))
    return found


def variances(*, seeds: Seeds, runs: int = 60) -> Agreement:
    """Variance of the final weights with a public divisor."""
    real = [
        normalisation.final_weights(normalisation.ROWS, "fixed", NOISE, seeds=seeds.at("real", i)).var()
        for i in range(runs)
    ]
    return _compare("variance of weights", np.array(real), simulated_variances(4000, seeds=seeds.at("law")))


def largest_shuffled(inside: bool, *, seeds: Seeds) -> float:
    """One epoch of a one-weight model: the record's clipped gradient is +1 (or its row is zero), all others' -1."""
    rows = SHUFFLE_STEPS * SHUFFLE_BATCH
    features = torch.full((rows, 1), 10.0)
    features[0] = -10.0 if inside else 0.0
    largest = -np.inf
    with seeds.torch_scope():
        model = nn.Linear(1, 1, bias=False)
        module, optimizer, loader = PrivacyEngine().make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            data_loader=DataLoader(TensorDataset(features), batch_size=SHUFFLE_BATCH, shuffle=True),
            noise_multiplier=shuffle.NOISE,
            max_grad_norm=1.0,
            poisson_sampling=False,
        )
        for (batch,) in loader:
            optimizer.zero_grad()
            (-module(batch)).mean().backward()
            optimizer.step()
            assert model.weight.grad is not None
            released = float(model.weight.grad) * optimizer.expected_batch_size
            largest = max(largest, released + SHUFFLE_BATCH)
    return float(largest)


def _compare(name: str, real: NDArray[np.float64], simulated: NDArray[np.float64]) -> Agreement:
    p_value = float(stats.ks_2samp(real, simulated).pvalue)
    return Agreement(name, len(real), len(simulated), p_value)
