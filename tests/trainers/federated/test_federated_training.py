from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import PrivateTrainer, Rows, Trained, Unit
from leakgauge.trainers.federated.layout import read_parameters
from leakgauge.trainers.federated.partition import partition_rows
from leakgauge.trainers.federated.trainer import Clients, DpFederated, Federated
from leakgauge.trainers.models import build_model

SMALL: dict[str, Any] = {"hidden": (6,), "clients": 8, "cohort": 4, "rounds": 5, "batch_size": 8}


def fit(trainer: Any, data: Rows, seed: int = 3, **options: Any) -> Trained:
    inside = np.arange(len(data)) % 4 != 0
    trained: Trained = trainer.fit(data, inside, seeds=Seeds(seed), device="cpu", **options)
    return trained


def test_the_whole_training_is_that_of_a_naive_loop(blobs: Rows) -> None:
    trainer = DpFederated(**SMALL, noise_multiplier=0.5, clip=0.3, server_momentum=0.5, dtype="float64")
    trained = fit(trainer, blobs)
    recipe, seeds = trainer.recipe(), Seeds(3)
    partition = partition_rows(blobs, recipe.partition)
    inside = np.arange(len(blobs)) % 4 != 0
    module = build_model(recipe.model, (8,), 5, seeds=seeds).double()
    weights = nn.utils.parameters_to_vector(module.parameters()).detach().numpy().copy()
    moving = np.zeros_like(weights)
    for t in range(5):
        here = seeds.at("round", t)
        total = np.zeros_like(weights)
        for k in np.flatnonzero(here.at("sampling").generator().random(8) < 0.5):
            rows = np.flatnonzero((partition.holder == k) & inside)
            nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), module.parameters())
            optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
            order = here.at("client", f"client-{k}").at("batches").generator().permutation(len(rows))
            for start in range(0, len(rows), 8):
                batch = rows[order[start : start + 8]]
                optimizer.zero_grad()
                logits = module(torch.from_numpy(blobs.features[batch]).double())
                nn.functional.cross_entropy(logits, torch.from_numpy(blobs.labels[batch])).backward()
                optimizer.step()
            update = nn.utils.parameters_to_vector(module.parameters()).detach().numpy() - weights
            total += update * min(1.0, 0.3 / np.linalg.norm(update))
        noise = here.at("central").at("noise").generator().standard_normal(len(weights)) * 0.5 * 0.3
        moving = 0.5 * moving + (total + noise) / 4
        weights = weights + moving
    assert np.allclose(read_parameters(trained.model), weights, atol=1e-9)


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
def test_federated_learning_learns_and_weights_by_examples_where_asked(blobs: Rows, weighting: str) -> None:
    trained = fit(Federated(**{**SMALL, "rounds": 40}, learning_rate=0.3, weighting=weighting), blobs)  # type: ignore[arg-type]
    assert trained.metrics["train_accuracy"] > 0.85
    assert trained.claim is None


def test_same_seeds_same_bytes_other_seeds_others(blobs: Rows) -> None:
    trainer = DpFederated(**SMALL, noise_multiplier=1.0)
    one, same, other = (read_parameters(fit(trainer, blobs, s).model) for s in (1, 1, 2))
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()


@pytest.mark.parametrize(
    ("view", "arrays"),
    [
        ("final-model", set()),
        ("global-models", {"models"}),
        ("sum", {"models", "sums", "answered"}),
        ("updates", {"models", "updates", "update_rounds", "update_clients"}),
    ],
)
def test_a_view_holds_what_its_observer_sees_and_nothing_else(
    blobs: Rows, view: str, arrays: set[str], tmp_path: Path
) -> None:
    trainer = Federated(**SMALL, weighting="uniform", view=view)  # type: ignore[arg-type]
    trained = fit(trainer, blobs)
    seen = trained.transcript
    assert seen is not None
    assert set(seen) == {"view", "clients"} | arrays
    assert bool(seen["clients"]) == (view in ("sum", "updates"))
    trainer.save(trained, tmp_path)
    again = trainer.load(tmp_path, blobs, device="cpu")
    assert again.transcript is not None
    for name in arrays:
        assert np.array_equal(again.transcript[name], seen[name])
        assert isinstance(again.transcript[name], np.memmap)
    assert np.array_equal(read_parameters(again.model), read_parameters(trained.model))


def test_updates_add_up_to_sums_and_sums_move_the_model(blobs: Rows) -> None:
    views = ("updates", "sum")
    updates, sums = (fit(Federated(**SMALL, weighting="uniform", view=v), blobs).transcript for v in views)  # type: ignore[arg-type]
    assert updates is not None
    assert sums is not None
    for t in range(5):
        here = updates["update_rounds"] == t
        assert np.allclose(updates["updates"][here].sum(0), sums["sums"][t], atol=1e-6)
        assert set(updates["update_clients"][here].tolist()) == set(np.flatnonzero(sums["answered"][t]).tolist())
        assert np.allclose(sums["models"][t + 1] - sums["models"][t], sums["sums"][t] / 4, atol=1e-6)


def test_a_central_server_sees_no_noise_and_a_local_one_only_noise(blobs: Rows) -> None:
    central = fit(Federated(**SMALL, weighting="uniform", view="updates"), blobs).transcript
    noisy = DpFederated(**SMALL, noise="local", noise_multiplier=50.0, view="updates")
    local = fit(noisy, blobs).transcript
    assert central is not None
    assert local is not None
    assert np.linalg.norm(central["updates"], axis=1).max() < 5
    # Noise of 50 in 89 coordinates has length 470; half of it is 30 standard deviations away.
    assert np.linalg.norm(local["updates"], axis=1).min() > 235


@pytest.mark.parametrize("view", ["final-model", "updates"])
def test_an_interrupted_training_resumes_bit_for_bit(blobs: Rows, view: str, tmp_path: Path, monkeypatch: Any) -> None:
    from leakgauge.trainers.checkpoint import Checkpoint
    from leakgauge.trainers.federated.rounds import Federation

    # With least_cohort some rounds are skipped, and their clients send nothing.
    trainer = DpFederated(**SMALL, noise="local", noise_multiplier=1.0, view=view, least_cohort=4)  # type: ignore[arg-type]
    whole = fit(trainer, blobs)
    assert whole.metrics["skipped_rounds"]
    monkeypatch.setattr(Checkpoint, "due", lambda _: True)
    real = Federation._round

    def killed(self: Federation, number: int) -> None:
        if number == 3:
            raise KeyboardInterrupt
        real(self, number)

    monkeypatch.setattr(Federation, "_round", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, blobs, checkpoint=tmp_path)
    monkeypatch.setattr(Federation, "_round", real)
    resumed = fit(trainer, blobs, checkpoint=tmp_path)
    assert read_parameters(resumed.model).tobytes() == read_parameters(whole.model).tobytes()
    if view == "updates":
        assert resumed.transcript is not None
        assert whole.transcript is not None
        assert np.array_equal(resumed.transcript["updates"], whole.transcript["updates"])


def test_masked_sums_give_the_same_model_as_exact_ones(blobs: Rows) -> None:
    shared: dict[str, Any] = {**SMALL, "noise": "distributed", "noise_multiplier": 1.0, "least_cohort": 2}
    models = [
        read_parameters(fit(DpFederated(**shared, client_dropout=0.2, secure_sum=s, view="sum"), blobs).model)  # type: ignore[arg-type]
        for s in ("exact", "masked")
    ]
    assert models[0].tobytes() == models[1].tobytes()


def test_too_few_shares_release_nothing(blobs: Rows) -> None:
    trainer = DpFederated(**SMALL, noise="distributed", noise_multiplier=1.0, least_cohort=8, view="sum")
    trained = fit(trainer, blobs)
    assert trained.metrics["skipped_rounds"] >= 4
    assert trained.transcript is not None
    skipped = ~trained.transcript["answered"].any(axis=1)
    assert not trained.transcript["sums"][skipped].any()


def test_claims_are_of_clients_and_the_twin_has_the_same_flow(blobs: Rows) -> None:
    trainer = DpFederated(**SMALL, epsilon=4.0)
    claim = fit(trainer, blobs).claim
    assert claim is not None
    assert claim.unit is Unit.CLIENT
    assert claim == trainer.planned_claim(0)
    assert 3.9 < claim.epsilon <= 4.0
    twin = trainer.unprotected()
    assert isinstance(trainer, PrivateTrainer)
    assert not isinstance(twin, PrivateTrainer)
    assert twin.recipe().schedule(8) == trainer.recipe().schedule(8)


def test_an_adaptive_clip_and_laplace_noise_train(blobs: Rows) -> None:
    adaptive = DpFederated(**SMALL, noise_multiplier=0.5, adaptive_clip=True, count_noise=1.0, clip=10.0)
    assert fit(adaptive, blobs).metrics["final_clip"] < 10
    laplace = fit(DpFederated(**SMALL, noise_multiplier=20.0, mechanism="laplace"), blobs)
    assert laplace.claim is not None
    assert laplace.claim.mechanism.name == "laplace"


def batch_normalised(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A model with running statistics."""
    return nn.Sequential(nn.Linear(shape[0], 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, classes))


def test_buffers_are_averaged_and_reported_or_refused_or_frozen(blobs: Rows) -> None:
    own = {**SMALL, "model": f"{__name__}:batch_normalised", "algorithm": "fedsgd"}
    averaged = fit(Federated(**own), blobs)
    assert averaged.metrics["averaged_buffers"] == 3
    assert averaged.model[1].running_mean.abs().max() > 0
    with pytest.raises(IncompatibleError, match=r"running_mean.*past clipping and noise"):
        fit(DpFederated(**own, noise_multiplier=1.0), blobs)
    frozen = fit(DpFederated(**own, noise_multiplier=1.0, buffers="freeze"), blobs)
    assert not frozen.model[1].running_mean.any()
    assert frozen.metrics["averaged_buffers"] == 0
    seen = fit(Federated(**own, view="global-models"), blobs).transcript
    assert seen is not None
    assert seen["buffers"].shape == (6, 13)


def test_batch_normalisation_of_a_single_row_is_a_clear_error(blobs: Rows) -> None:
    own = {**SMALL, "model": f"{__name__}:batch_normalised", "batch_size": 1}
    with pytest.raises(IncompatibleError, match="batch is one row"):
        fit(Federated(**own), blobs)


def test_clients_of_odd_kinds_train(blobs: Rows) -> None:
    many = fit(Federated(**{**SMALL, "clients": 400, "cohort": 200}), blobs)
    assert many.metrics["clients_without_rows"] > 100
    alone = fit(DpFederated(**{**SMALL, "cohort": 1}, noise_multiplier=1.0), blobs)
    assert alone.metrics["mean_cohort"] < 3
    natural = Federated(**{**SMALL, "partition": "natural", "clients": None})
    assert fit(natural, blobs).metrics["clients_without_rows"] == 0
    one_class = blobs.take(blobs.labels == 2)
    assert np.isfinite(fit(Federated(**SMALL), one_class).metrics["train_loss"])


def test_updates_that_are_no_numbers_are_named_and_count_as_zero(blobs: Rows) -> None:
    features = blobs.features.copy()
    features[7] = np.inf
    broken = Rows(features, blobs.labels, blobs.records, blobs.classes)
    with pytest.warns(UserWarning, match="sent an update with NaN or infinity"):
        trained = fit(Federated(**{**SMALL, "cohort": 8}), broken)
    assert trained.metrics["rejected_updates"] == 5


def test_no_rows_at_all_is_an_error_without_protection_only(blobs: Rows) -> None:
    nobody = np.zeros(len(blobs), bool)
    with pytest.raises(ConfigError, match="no training rows"):
        Federated(**SMALL).fit(blobs, nobody, seeds=Seeds(1), device="cpu")
    noise = DpFederated(**SMALL, noise_multiplier=1.0).fit(blobs, nobody, seeds=Seeds(1), device="cpu")
    assert noise.claim is not None


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (Federated, {"cohort": 30}, "must lie in"),
        (Federated, {"view": "everything"}, "unknown view"),
        (Federated, {"buffers": "refuse"}, "buffers must be"),
        (Federated, {"weighting": "rows"}, "weighting must be"),
        (Federated, {"rounds": 0}, "rounds"),
        (Federated, {"client_dropout": 1.0}, "client_dropout"),
        (DpFederated, {}, "either epsilon or noise_multiplier"),
        (DpFederated, {"noise_multiplier": 0.0}, "must be > 0"),
        (DpFederated, {"noise_multiplier": 1.0, "view": "updates"}, "protects nobody from view 'updates'"),
        (DpFederated, {"noise_multiplier": 1.0, "noise": "distributed"}, "least_cohort >= 2"),
        (DpFederated, {"noise_multiplier": 1.0, "secure_sum": "masked"}, "sums integers"),
        (DpFederated, {"noise_multiplier": 1.0, "noise": "both"}, "client_noise_multiplier goes with"),
        (DpFederated, {"noise_multiplier": 1.0, "buffers": "average"}, "not protected"),
        (DpFederated, {"noise_multiplier": 1.0, "partition": "natural"}, "needs nominal_clients"),
        (DpFederated, {"noise_multiplier": 1.0, "clip": -1.0}, "clip must be"),
    ],
)
def test_wrong_settings_are_refused(kind: type[Clients], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**wrong)
