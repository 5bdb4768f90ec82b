from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from leakgauge.attacks.federated.active import ActiveMembership, record_gradient, trapped
from leakgauge.attacks.federated.hosts import flat_weights
from leakgauge.attacks.federated.labels import LabelDistribution, Ridge, shares_of, total_variation
from leakgauge.attacks.federated.one_shot import Normal, OneShot, normal_epsilon
from leakgauge.attacks.federated.rounds import FederatedMembership, RoundSignals
from leakgauge.audit.bounds.gaussian import gaussian_epsilon
from leakgauge.audit.errors import ConfigError, IncompatibleError, PrerequisiteError
from leakgauge.audit.games import Game, Stage
from leakgauge.audit.metrics.auc import auc
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, Answers, Evidence, Rows
from leakgauge.trainers.federated.trainer import DpFederated, Federated
from leakgauge.trainers.sgd import Sgd


@pytest.fixture(scope="module")
def rows() -> Rows:
    """400 noisy rows of 5 classes, 20 features, 20 users of 20 rows each."""
    generator = Seeds(31).generator()
    labels = generator.integers(0, 5, 400)
    features = generator.normal(size=(5, 20))[labels] + generator.normal(size=(400, 20))
    groups = tuple(f"user-{i % 20:02d}" for i in range(400))
    return Rows(features.astype(np.float32), labels, tuple(map(str, range(400))), 5, "rows", groups)


def stage(trainer: Any, rows: Rows, folder: Path) -> Stage:
    private, population = rows.take(np.arange(250)), rows.take(np.arange(250, 400))
    inside = np.arange(250) % 2 == 0
    fitted = trainer.fit(private, inside, seeds=Seeds(1), device="cpu")
    return Stage(
        trainer, population, private, inside, lambda: fitted, fitted.claim, Access.TRANSCRIPT, "cpu", 0.95, folder
    )


PLAIN = Federated(hidden=(16,), clients=10, cohort=5, rounds=10, learning_rate=0.3)
LOCAL = DpFederated(
    hidden=(16,), clients=10, cohort=5, rounds=3, noise="local", noise_multiplier=3.0, learning_rate=0.3, view="updates"
)


def test_labels_show_in_a_plain_update_and_not_in_a_noisy_one(rows: Rows, tmp_path: Path) -> None:
    game = LabelDistribution(victims=40, rehearsals=60, rows=16)
    assert isinstance(game, Game)
    seen = {
        t.name: game.play(stage(t, rows, tmp_path), seeds=Seeds(2)).measures["label_distance"] for t in (PLAIN, LOCAL)
    }
    plain, noisy = seen["federated"], seen["dp-federated"]
    assert plain.value is not None
    assert noisy.value is not None
    assert plain.baseline is not None
    assert plain.value < 0.6 * (plain.baseline.value or 0)
    # Ridge falls back to the mean of the rehearsals: no worse than one who knows nothing, to chance.
    assert noisy.value > 0.85 * (noisy.baseline.value or 0)  # type: ignore[union-attr]


def test_ridge_reads_a_noiseless_linear_law_exactly() -> None:
    generator = Seeds(3).generator()
    shares = generator.dirichlet(np.ones(4), 80)
    shifts = (shares - 0.25) @ generator.normal(size=(4, 4))
    reader = Ridge.fit(shifts, shares)
    assert max(total_variation(reader.shares(x), y) for x, y in zip(shifts, shares, strict=True)) < 0.01
    useless = Ridge.fit(generator.normal(size=(80, 4)), shares)
    assert total_variation(useless.shares(generator.normal(size=4)), shares.mean(0)) < 0.15


def test_label_shares_add_up(rows: Rows) -> None:
    assert math.isclose(shares_of(rows).sum(), 1)


def test_a_trap_catches_its_record_without_noise_and_not_with_it(rows: Rows, tmp_path: Path) -> None:
    game = ActiveMembership(trials=60, rows=16)
    plain = game.play(stage(PLAIN, rows, tmp_path), seeds=Seeds(4)).measures["active_auc"]
    noisy = game.play(stage(LOCAL, rows, tmp_path), seeds=Seeds(4)).measures["active_auc"]
    assert (plain.value or 0) > 0.8
    # 60 coins: standard deviation of the AUC is 0.075 at chance.
    assert abs((noisy.value or 0) - 0.5) < 0.3


def test_a_trap_fires_on_its_record_and_on_no_public_one(rows: Rows) -> None:
    module = PLAIN.fit(rows, np.ones(400, bool), seeds=Seeds(1), device="cpu").model
    public, weights = rows.features[200:], flat_weights(module)
    crafted, places = trapped(module, weights, rows.features[:1], public)
    row, bias = crafted[places[:-1]], crafted[places[-1]]
    assert rows.features[0] @ row + bias > 0
    assert (public @ row + bias < 0).all()
    assert len(places) == 21


def test_ascent_works_for_a_model_without_hidden_layer(rows: Rows, tmp_path: Path) -> None:
    trainer = dataclasses.replace(PLAIN, model="logistic", algorithm="fedsgd")
    here = stage(trainer, rows, tmp_path)
    with pytest.raises(IncompatibleError, match="use method = 'ascent'"):
        ActiveMembership(trials=10, rows=16).play(here, seeds=Seeds(5))
    measured = ActiveMembership(trials=100, rows=4, method="ascent").play(here, seeds=Seeds(5)).measures["active_auc"]
    assert (measured.value or 0) > 0.65


def test_record_gradients_are_autograd_s(rows: Rows) -> None:
    import torch

    module = PLAIN.fit(rows, np.ones(400, bool), seeds=Seeds(1), device="cpu").model
    loss = torch.nn.functional.cross_entropy(
        module(torch.from_numpy(rows.features[:3])), torch.from_numpy(rows.labels[:3])
    )
    expected = torch.cat([g.ravel() for g in torch.autograd.grad(loss, list(module.parameters()))]).numpy()
    assert np.allclose(
        record_gradient(module, flat_weights(module), rows.take(np.arange(3)), "cpu"), expected, atol=1e-6
    )


def test_games_need_a_federated_trainer(rows: Rows, tmp_path: Path) -> None:
    here = dataclasses.replace(stage(PLAIN, rows, tmp_path), trainer=Sgd())
    with pytest.raises(IncompatibleError, match="'sgd' has no clients"):
        LabelDistribution().play(here, seeds=Seeds(1))
    with pytest.raises(IncompatibleError, match="inserts 'client-random'"):
        OneShot().play(here, seeds=Seeds(1))


def test_one_shot_is_an_estimate_near_the_truth_of_one_release(rows: Rows, tmp_path: Path) -> None:
    trainer = DpFederated(hidden=(64,), clients=10, cohort=10, rounds=1, noise_multiplier=1.0, learning_rate=0.01)
    outcome = OneShot(canaries=400).play(stage(trainer, rows, tmp_path), seeds=Seeds(6))
    measure = outcome.measures["one_shot_epsilon"]
    assert outcome.trials is None
    assert "never decides" in outcome.notes[0]
    # One Gaussian release at noise 1 is 4.38. 200 other canaries in 1669 parameters make the noise sqrt(1 + 200/1669).
    assert measure.low is not None
    assert measure.high is not None
    assert measure.low < gaussian_epsilon(1 / math.sqrt(1 + 200 / 1669), 1e-5) < measure.high


def test_epsilon_of_equal_normals_is_the_gaussian_mechanism_s() -> None:
    for mu in (0.1, 1.0, 3.0):
        assert math.isclose(
            normal_epsilon(Normal(mu, 2.0), Normal(0.0, 2.0), delta=1e-5), gaussian_epsilon(mu / 2, 1e-5), rel_tol=1e-6
        )
    assert normal_epsilon(Normal(1.0, 1.0), Normal(1.0, 1.0), delta=1e-5) == 0


@pytest.mark.parametrize(
    ("one", "other"), [((1.0, 1.3), (0.0, 1.0)), ((0.5, 0.6), (0.0, 1.0)), ((0.0, 2.0), (0.0, 1.0))]
)
def test_epsilon_of_unequal_normals_by_integration(one: tuple[float, float], other: tuple[float, float]) -> None:
    delta = 1e-3
    epsilon = normal_epsilon(Normal(*one), Normal(*other), delta=delta)

    def hockey_stick(p: tuple[float, float], q: tuple[float, float]) -> float:
        def gap(x: float) -> float:
            return max(0.0, float(stats.norm.pdf(x, *p) - math.exp(epsilon) * stats.norm.pdf(x, *q)))

        return float(integrate.quad(gap, -25, 25, limit=2000, points=np.linspace(-8, 8, 33).tolist())[0])

    assert math.isclose(max(hockey_stick(one, other), hockey_stick(other, one)), delta, rel_tol=1e-3)


@pytest.mark.parametrize("signal", ["alignment", "loss"])
def test_a_record_stands_out_in_the_updates_of_its_own_user(rows: Rows, signal: str) -> None:
    trainer = Federated(
        hidden=(16,),
        clients=None,
        partition="natural",
        cohort=10,
        rounds=20,
        local_epochs=5,
        learning_rate=0.2,
        view="updates",
    )
    inside = Seeds(7).generator().random(400) < 0.5
    trained = trainer.fit(rows, inside, seeds=Seeds(8), device="cpu")
    answers = RoundSignals(signal).ask(trained, rows, seeds=Seeds(1), device="cpu")  # type: ignore[arg-type]
    assert answers.shape == (400, 1)
    # 400 records: standard deviation of the AUC at chance is 0.03.
    assert auc(answers[:, 0], inside) > 0.65


@pytest.mark.parametrize("view", ["global-models", "sum"])
def test_rounds_are_read_in_every_view_that_has_models(rows: Rows, view: str) -> None:
    trainer = dataclasses.replace(PLAIN, view=view)
    trained = trainer.fit(rows, np.arange(400) < 200, seeds=Seeds(8), device="cpu")
    for signal in ("alignment", "loss"):
        answers = RoundSignals(signal).ask(trained, rows, seeds=Seeds(1), device="cpu")  # type: ignore[arg-type]
        assert np.isfinite(answers).all()
    outsider = PLAIN.fit(rows, np.arange(400) < 200, seeds=Seeds(8), device="cpu")
    with pytest.raises(PrerequisiteError, match="set view = 'global-models'"):
        RoundSignals().ask(outsider, rows, seeds=Seeds(1), device="cpu")


def test_alignment_is_the_derivative_along_the_release(rows: Rows) -> None:
    """Against a finite difference of the losses, for one round."""
    trained = dataclasses.replace(PLAIN, view="global-models", rounds=1, dtype="float64").fit(
        rows, np.ones(400, bool), seeds=Seeds(8), device="cpu"
    )
    transcript = dict(trained.transcript or {})
    models = np.asarray(transcript["models"], np.float64)
    move = (models[1] - models[0]) / np.linalg.norm(models[1] - models[0])
    losses = []
    for s in (-1e-4, 1e-4):
        transcript["models"] = np.stack([models[0], models[0] + s * move])
        moved = dataclasses.replace(trained, transcript=transcript)
        losses.append(RoundSignals("loss").ask(moved, rows, seeds=Seeds(1), device="cpu")[:, 0])
    transcript["models"] = models
    exact = RoundSignals().ask(dataclasses.replace(trained, transcript=transcript), rows, seeds=Seeds(1), device="cpu")
    assert np.allclose(exact[:, 0], (losses[1] - losses[0]) / 2e-4, atol=2e-2)


def test_shadows_take_a_record_s_difficulty_off() -> None:
    generator = Seeds(9).generator()
    n, shadows = 200, 8
    difficulty, inside = 10 * generator.normal(size=n), generator.random(n) < 0.5
    shadow_inside = generator.random((shadows, n)) < 0.5
    target = (difficulty + inside)[:, None]
    others = (difficulty + shadow_inside)[..., None]
    blank = np.zeros((0, 3))
    evidence = Evidence(
        labels=np.zeros(n, np.int64),
        records=tuple(map(str, range(n))),
        target=np.zeros((n, 3)),
        shadows=np.zeros((shadows, n, 3)),
        shadow_inside=shadow_inside,
        population_labels=np.zeros(0, np.int64),
        population_target=blank,
        population_shadows=np.zeros((shadows, 0, 3)),
        answers={RoundSignals.name: Answers(target, others, blank, np.zeros((shadows, 0, 1)))},
    )
    raw = FederatedMembership().score(evidence, seeds=Seeds(1)).values
    calibrated = FederatedMembership(shadows=8).score(evidence, seeds=Seeds(1)).values
    assert auc(raw, inside) < 0.65
    assert auc(calibrated, inside) > 0.95


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (LabelDistribution, {"victims": 1}),
        (LabelDistribution, {"rehearsals": 3}),
        (ActiveMembership, {"method": "fish"}),
        (ActiveMembership, {"trials": 2}),
        (OneShot, {"canaries": 3}),
        (OneShot, {"view": "sum"}),
        (FederatedMembership, {"signal": "gradient"}),
        (FederatedMembership, {"shadows": -1}),
    ],
)
def test_wrong_settings_are_refused(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        kind(**wrong)
