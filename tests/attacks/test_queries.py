"""Variants, votes, boundary distances, gradient norms and distillation, against slow or exact computations."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from leakgauge.attacks.membership.queries import Augmented, BoundaryDistance, GradientNorms, Trajectory, Votes
from leakgauge.attacks.membership.queries.variants import Variants, moves, shifted
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows, Trained
from leakgauge.trainers.models import ModelSpec, build_model
from leakgauge.trainers.targets import TorchTarget

SEEDS = Seeds(4)


def rows_of(features: NDArray[Any], labels: Any = None, classes: int = 3) -> Rows:
    given = np.zeros(len(features), np.int64) if labels is None else np.asarray(labels, np.int64)
    return Rows(features, given, tuple(map(str, range(len(features)))), classes)


def torch_trained(module: torch.nn.Module) -> Trained:
    return Trained(module, TorchTarget(module, "cpu"), None, 0)


@dataclass
class Counted:
    """A target by formula that counts how many records it was asked about."""

    answer: Any
    asked: int = 0

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        self.asked += len(features)
        return np.log(np.eye(3, dtype=np.float32)[self.answer(features)] * 0.98 + 0.01)


PICTURES = SEEDS.generator().random((7, 2, 5, 4), dtype=np.float32)


def test_moves_are_the_shortest_ones_first() -> None:
    assert moves(1) == [(0, 0)]
    assert set(moves(5)) == {(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)}
    lengths = [abs(y) + abs(x) for y, x in moves(40)]
    assert lengths == sorted(lengths)
    assert len(set(moves(40))) == 40


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (-2, 3), (7, -9)])
def test_shifted_equals_a_loop_over_pixels(down: int, right: int) -> None:
    out = shifted(PICTURES, down, right)
    for y, x in itertools.product(range(5), range(4)):
        source = PICTURES[..., min(max(y - down, 0), 4), min(max(x - right, 0), 3)]
        np.testing.assert_array_equal(out[..., y, x], source)


def test_flips_mirror_every_move() -> None:
    plain, mirrored, moved, both = Variants(4, "flip", 0.1).of(PICTURES, seeds=SEEDS)
    np.testing.assert_array_equal(plain, PICTURES)
    np.testing.assert_array_equal(mirrored, PICTURES[..., ::-1])
    np.testing.assert_array_equal(moved, shifted(PICTURES, *moves(4)[1]))
    np.testing.assert_array_equal(both, shifted(PICTURES[..., ::-1], *moves(4)[1]))


def test_noise_keeps_two_valued_and_constant_columns_what_they_are() -> None:
    generator = np.random.default_rng(0)
    table = np.column_stack([generator.normal(5, 10, 4000), generator.random(4000) < 0.1, np.full(4000, 3.0)]).astype(
        np.float32
    )
    first, second = Variants(2, "noise", 0.2).of(table, seeds=SEEDS)
    np.testing.assert_array_equal(first, table)
    np.testing.assert_array_equal(second[:, 2], 3.0)
    assert set(np.unique(second[:, 1])) == {0.0, 1.0}
    # Noise of 0.2 standard deviations; 4000 draws fix their own spread to 1.1 % (one standard error).
    assert (second - table)[:, 0].std() == pytest.approx(0.2 * table[:, 0].std(), rel=0.06)
    # Drawn again with probability 0.2 from frequencies (0.9, 0.1): 2 * 0.2 * 0.09 of the values change.
    assert (second != table)[:, 1].mean() == pytest.approx(0.036, abs=0.012)
    (_, again) = Variants(2, "noise", 0.2).of(table, seeds=SEEDS)
    np.testing.assert_array_equal(again, second)


def test_variants_of_what_has_none() -> None:
    with pytest.raises(IncompatibleError, match="use kind = 'noise'"):
        list(Variants(2, "shift", 0.1).of(np.zeros((3, 4), np.float32), seeds=SEEDS))
    with pytest.raises(IncompatibleError, match="tokens"):
        list(Variants(2, "auto", 0.1).of(np.zeros((3, 4), np.int64), seeds=SEEDS))
    with pytest.raises(ConfigError, match="kind must be one of"):
        Augmented(kind="rotate")  # type: ignore[arg-type]


def test_augmented_answers_and_votes() -> None:
    trained = torch_trained(build_model(ModelSpec("cnn"), (2, 5, 4), 3, seeds=Seeds(1)))
    rows = rows_of(PICTURES, [0, 1, 2, 0, 1, 2, 0])
    answers = Augmented(6).ask(trained, rows, seeds=SEEDS, device="cpu")
    assert (answers.shape, answers.dtype) == ((7, 6, 3), np.float32)
    np.testing.assert_array_equal(answers[:, 0], trained.target.log_probabilities(PICTURES))
    np.testing.assert_array_equal(answers[:, 3], trained.target.log_probabilities(shifted(PICTURES, *moves(6)[3])))
    votes = Votes(6).ask(trained, rows, seeds=SEEDS, device="cpu")
    np.testing.assert_array_equal(votes, answers.argmax(axis=2) == rows.labels[:, None])


def plane(features: NDArray[Any]) -> NDArray[np.intp]:
    """Class 1 above the plane x . (1, 2, 2, 0, 0) / 3 = 0.2, else 0."""
    return (features @ np.array([1, 2, 2, 0, 0]) / 3 > 0.2).astype(np.intp)


def test_distance_to_a_plane_is_found_and_signed() -> None:
    points = np.random.default_rng(1).normal(size=(200, 5)).astype(np.float32)
    exact = np.abs(points @ np.array([1, 2, 2, 0, 0]) / 3 - 0.2)
    labels = np.where(np.arange(200) % 4 == 0, 1 - plane(points), plane(points))
    target = Counted(plane)
    rows = rows_of(points, labels)
    found = BoundaryDistance(400, 5).ask(Trained(None, target, None, 0), rows, seeds=SEEDS, device="cpu")
    np.testing.assert_array_equal(np.sign(found), np.where(np.arange(200) % 4 == 0, -1, 1))
    # Never nearer than the plane, but for rounding; and near it.
    assert (np.abs(found) >= exact - 1e-4).all()
    assert np.median(np.abs(found) / exact) < 1.1
    coarse = BoundaryDistance(13, 0).ask(Trained(None, Counted(plane), None, 0), rows, seeds=SEEDS, device="cpu")
    assert (np.abs(coarse) >= np.abs(found) - 1e-6).all()
    assert np.median(np.abs(coarse) / exact) > 1.3


@pytest.mark.parametrize(("budget", "rounds"), [(13, 0), (40, 1), (200, 3), (500, 5)])
def test_the_budget_is_kept(budget: int, rounds: int) -> None:
    points = np.random.default_rng(1).normal(size=(50, 5)).astype(np.float32)
    target = Counted(plane)
    BoundaryDistance(budget, rounds).ask(Trained(None, target, None, 0), rows_of(points), seeds=SEEDS, device="cpu")
    assert budget - max(rounds, 1) < target.asked / 50 <= budget


def test_a_model_that_always_says_the_same_has_no_boundary() -> None:
    points = np.random.default_rng(1).normal(size=(50, 5)).astype(np.float32)
    constant = Trained(None, Counted(lambda x: np.zeros(len(x), np.intp)), None, 0)
    found = BoundaryDistance(40, 1).ask(constant, rows_of(points), seeds=SEEDS, device="cpu")
    farthest = np.sqrt(np.square(points[:, None] - points).sum(axis=2)).max(axis=1)
    np.testing.assert_allclose(found, farthest, rtol=1e-4)
    with pytest.raises(ConfigError, match="budget 30 is too small for 3 rounds, which need at least 79"):
        BoundaryDistance(30, 3)


def test_trial_points_stay_within_the_range_of_the_records() -> None:
    points = np.random.default_rng(1).random((60, 5), dtype=np.float32)
    seen: list[NDArray[Any]] = []

    def answer(features: NDArray[Any]) -> NDArray[np.intp]:
        seen.append(features)
        return plane(features)

    BoundaryDistance(200, 3).ask(Trained(None, Counted(answer), None, 0), rows_of(points), seeds=SEEDS, device="cpu")
    asked = np.concatenate(seen)
    assert (asked >= points.min(axis=0)).all()
    assert (asked <= points.max(axis=0)).all()


class Recurrent(torch.nn.Module):
    """Tokens through an embedding and a recurrent layer, which cannot be vectorised over records."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer = torch.nn.Embedding(10, 4), torch.nn.GRU(4, 5, batch_first=True)
        self.head = torch.nn.Linear(5, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.embedding(tokens))[0][:, -1])


def norms_by_loop(module: torch.nn.Module, rows: Rows) -> NDArray[np.float64]:
    """One backward pass a record."""
    out = []
    for record, label in zip(rows.features, rows.labels, strict=True):
        entry = torch.from_numpy(record[None].copy())
        tokens = not entry.is_floating_point()
        if not tokens:
            entry.requires_grad_()
        module.zero_grad()
        functional.cross_entropy(module(entry), torch.tensor([label])).backward()
        first = 0.0 if tokens else float(entry.grad.norm())
        out.append([first, *(float(p.grad.norm()) for p in module.parameters())])
    return np.array(out)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_gradient_norms_equal_one_backward_pass_a_record(name: str) -> None:
    module = build_model(ModelSpec(name, dropout=0.5), (2, 5, 4), 3, seeds=Seeds(2)).train()
    rows = rows_of(PICTURES, [0, 1, 2, 0, 1, 2, 0])
    found = GradientNorms().ask(torch_trained(module), rows, seeds=SEEDS, device="cpu")
    assert module.training
    np.testing.assert_allclose(found, norms_by_loop(module.eval(), rows), rtol=1e-4, atol=1e-6)


def test_gradient_norms_of_tokens_through_a_recurrent_layer() -> None:
    with Seeds(3).torch_scope():
        module = Recurrent().eval()
    rows = rows_of(np.random.default_rng(0).integers(0, 10, (6, 5)), [0, 1, 2, 0, 1, 2])
    found = GradientNorms().ask(torch_trained(module), rows, seeds=SEEDS, device="cpu")
    np.testing.assert_allclose(found, norms_by_loop(module, rows), rtol=1e-4, atol=1e-6)


def test_gradient_norms_in_chunks_and_without_records(monkeypatch) -> None:
    from leakgauge.attacks.membership.queries import gradients

    module = build_model(ModelSpec("logistic"), (2, 5, 4), 3, seeds=Seeds(2))
    whole = GradientNorms().ask(torch_trained(module), rows_of(PICTURES), seeds=SEEDS, device="cpu")
    monkeypatch.setattr(gradients, "NUMBERS", 400)
    parts = GradientNorms().ask(torch_trained(module), rows_of(PICTURES), seeds=SEEDS, device="cpu")
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    empty = GradientNorms().ask(torch_trained(module), rows_of(PICTURES[:0]), seeds=SEEDS, device="cpu")
    assert empty.shape == (0, 3)
    with pytest.raises(IncompatibleError, match="torch module, this model is a dict"):
        GradientNorms().ask(
            Trained({}, TorchTarget(module, "cpu"), None, 0), rows_of(PICTURES), seeds=SEEDS, device="cpu"
        )


def test_students_learn_what_the_teacher_knows() -> None:
    """The teacher is a fixed random linear model; students trained on its answers must come to agree with it."""
    generator = np.random.default_rng(0)
    points = generator.normal(size=(400, 6)).astype(np.float32)
    module = build_model(ModelSpec("logistic"), (6,), 3, seeds=Seeds(2))
    with torch.no_grad():
        module[1].weight.mul_(8)
    trained = torch_trained(module)
    labels = trained.target.log_probabilities(points).argmax(axis=1)
    query = Trajectory(epochs=15, folds=2, hidden=32, learning_rate=0.01)
    losses = query.ask(trained, rows_of(points, labels), seeds=SEEDS, device="cpu")
    assert losses.shape == (400, 15)
    mean = losses.mean(axis=0)
    assert mean[0] > 2 * mean[-1]
    own = -trained.target.log_probabilities(points)[np.arange(400), labels]
    assert mean[-1] == pytest.approx(own.mean(), abs=0.15)
    again = query.ask(trained, rows_of(points, labels), seeds=SEEDS, device="cpu")
    np.testing.assert_array_equal(again, losses)


def test_a_records_trajectory_does_not_depend_on_the_answer_to_itself() -> None:
    """Each record's student is distilled on the other folds: a lie about record 5 reaches the other folds only."""
    points = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)

    @dataclass
    class Liar:
        about: list[int]

        def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
            chances = np.full((len(features), 3), 1 / 3)
            chances[self.about] = (0.98, 0.01, 0.01)
            return np.log(chances).astype(np.float32)

    query = Trajectory(epochs=3, folds=3, hidden=8, batch_size=8)
    honest, lying = (
        query.ask(Trained(None, Liar(about), None, 0), rows_of(points), seeds=SEEDS, device="cpu")
        for about in ([], [5])
    )
    fold = SEEDS.at("folds").generator().permutation(60) % 3
    np.testing.assert_array_equal(honest[fold == fold[5]], lying[fold == fold[5]])
    assert (honest[fold != fold[5]] != lying[fold != fold[5]]).any(axis=1).all()


def test_trajectories_of_too_few_records_or_tokens() -> None:
    trained = torch_trained(build_model(ModelSpec("logistic"), (4,), 3, seeds=Seeds(2)))
    with pytest.raises(IncompatibleError, match="too few for 4 folds"):
        Trajectory().ask(trained, rows_of(np.zeros((5, 4), np.float32)), seeds=SEEDS, device="cpu")
    with pytest.raises(IncompatibleError, match="tokens"):
        Trajectory().ask(trained, rows_of(np.zeros((50, 4), np.int64)), seeds=SEEDS, device="cpu")
    with pytest.raises(ConfigError, match="folds"):
        Trajectory(folds=1)
