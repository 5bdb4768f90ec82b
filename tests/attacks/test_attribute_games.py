"""Attribute inference and model inversion: parts against oracles, games against models whose leak is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from leakgauge.attacks.attribute import AttributeInference, ModelInversion
from leakgauge.attacks.attribute.columns import find_attribute
from leakgauge.attacks.attribute.imputation import Imputation
from leakgauge.attacks.attribute.intervals import paired, unpaired
from leakgauge.attacks.attribute.inversion import averaged
from leakgauge.attacks.attribute.similarity import Similarity, ssim
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.games import Game, Stage
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, Rows, Trained
from leakgauge.trainers.targets import TorchTarget

SEEDS = Seeds(8)
COLUMNS = ("age", "income", "age=missing", "sex=f", "sex=m", "town=a", "town=b", "town=missing")


def table(count: int, seed: int, first: int = 0) -> Rows:
    """Records with two numbers and two categories that have nothing to do with each other, and labels by a coin."""
    generator = np.random.default_rng(seed)
    features = np.zeros((count, 8), np.float32)
    features[:, 0], features[:, 1] = generator.normal(size=count), generator.integers(0, 3, count)
    rows = np.arange(count)
    features[rows, 3 + generator.integers(0, 2, count)] = 1
    features[rows, 5 + generator.integers(0, 2, count)] = 1
    labels = generator.integers(0, 2, count)
    return Rows(features, labels, tuple(f"r{i + first}" for i in range(count)), 2, "table", None, COLUMNS)


POPULATION, PRIVATE = table(300, 1, first=1000), table(400, 2)
INSIDE = np.random.default_rng(3).random(400) < 0.5


class Remembers:
    """Sure of the label of the very records it saw; knows nothing about any other."""

    def __init__(self, rows: Rows, sure: float = 0.99) -> None:
        self.known = {row.tobytes(): label for row, label in zip(rows.features, rows.labels, strict=True)}
        self.sure = sure

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        chances = np.full((len(features), 2), 0.5)
        for chance, row in zip(chances, np.ascontiguousarray(features), strict=True):
            label = self.known.get(row.tobytes())
            if label is not None:
                chance[:] = 1 - self.sure
                chance[label] = self.sure
        return np.log(chances).astype(np.float32)


def stage(target: Any, model: Any = None, population: Rows = POPULATION, private: Rows = PRIVATE) -> Stage:
    trained = Trained(model, target, None, 1)
    inside = INSIDE[: len(private)]
    return Stage(None, population, private, inside, lambda: trained, None, Access.WEIGHTS, "cpu", 0.95, Path("."))


def test_columns_are_found_by_name() -> None:
    sex = find_attribute(POPULATION, "sex", 4)
    assert (sex.positions.tolist(), sex.values) == ([3, 4], ("f", "m"))
    np.testing.assert_array_equal(sex.of(POPULATION.features), POPULATION.features[:, 4])
    written = sex.written(POPULATION.features, 1)
    assert (written[:, 4] == 1).all()
    assert (written[:, 3] == 0).all()
    np.testing.assert_array_equal(np.delete(written, [3, 4], axis=1), sex.without(POPULATION.features))
    assert sex.of(np.zeros((2, 8), np.float32)).tolist() == [-1, -1]
    income = find_attribute(POPULATION, "income", 4)
    assert income.values == ("0", "1", "2")
    # A category that no public record has is no candidate.
    assert find_attribute(POPULATION, "town", 4).values == ("a", "b")


def test_numbers_are_cut_into_bins_of_equal_population() -> None:
    age = find_attribute(POPULATION, "age", 4)
    codes = age.of(POPULATION.features)
    assert np.bincount(codes).tolist() == [75, 75, 75, 75]
    for k in range(4):
        assert (age.of(age.written(POPULATION.features, k)) == k).all()
    assert age.of(np.array([[-99.0] * 8, [99.0] * 8], np.float32)).tolist() == [0, 3]


def test_columns_without_names_go_by_position_and_hashed_ones_by_bucket() -> None:
    plain = Rows(POPULATION.features, POPULATION.labels, POPULATION.records, 2)
    assert find_attribute(plain, "1", 4).values == ("0", "1", "2")
    with pytest.raises(ConfigError, match=r"give a position in 0\.\.7"):
        find_attribute(plain, "sex", 4)
    hashed = Rows(plain.features[:, 3:5], plain.labels, plain.records, 2, columns=("sex#0", "sex#1"))
    assert find_attribute(hashed, "sex", 4).values == ("0", "1")


def test_attributes_that_cannot_be_found() -> None:
    with pytest.raises(ConfigError, match="did you mean 'town'"):
        find_attribute(POPULATION, "twon", 4)
    constant = Rows(np.ones((5, 2), np.float32), np.zeros(5, np.int64), tuple("abcde"), 2)
    with pytest.raises(IncompatibleError, match="single value"):
        find_attribute(constant, "0", 4)
    pictures = Rows(np.ones((5, 2, 2), np.float32), np.zeros(5, np.int64), tuple("abcde"), 2)
    with pytest.raises(IncompatibleError, match="columns of tables"):
        find_attribute(pictures, "0", 4)


def test_the_names_of_columns_survive_encoding_and_splitting() -> None:
    from leakgauge.trainers.data import DataSpec, load_data

    data = load_data(DataSpec(seed=1, name="wine"))
    assert data.rows.columns[0] == "alcohol"
    assert data.rows.take(np.arange(3)).columns == data.rows.columns
    assert len(data.rows.columns) == data.rows.features.shape[1]


def test_imputation_approaches_the_best_possible() -> None:
    """sex follows town with probability 0.8, and nothing else matters."""
    generator = np.random.default_rng(0)
    rows = table(1500, 5)
    town = rows.features[:, 6].astype(int)
    sex = np.where(generator.random(1500) < 0.8, town, 1 - town)
    rows.features[:, 3:5] = np.eye(2, dtype=np.float32)[sex]
    learned = Imputation.learn(rows.take(np.arange(750)), find_attribute(rows, "sex", 4), knows_label=True, seeds=SEEDS)
    chances = np.exp(learned.log_posterior(rows.take(np.arange(750, 1500))))
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    # 750 records fix the share of right guesses to 0.015.
    assert (chances.argmax(axis=1) == sex[750:]).mean() == pytest.approx(0.8, abs=0.06)
    assert chances[np.arange(750), town[750:]].mean() == pytest.approx(0.8, abs=0.07)


def test_imputation_may_know_the_label() -> None:
    rows = table(600, 6)
    rows.features[:, 3:5] = np.eye(2, dtype=np.float32)[rows.labels]
    attribute = find_attribute(rows, "sex", 4)
    for knows, least, most in ((True, 0.99, 1.0), (False, 0.3, 0.7)):
        learned = Imputation.learn(rows.take(np.arange(300)), attribute, knows_label=knows, seeds=SEEDS)
        right = learned.log_posterior(rows.take(np.arange(300, 600))).argmax(axis=1) == rows.labels[300:]
        assert least <= right.mean() <= most
    with pytest.raises(IncompatibleError, match="at least 50 public records"):
        Imputation.learn(rows.take(np.arange(30)), attribute, knows_label=True, seeds=SEEDS)


@pytest.mark.parametrize(("both", "first", "second"), [(0.5, 0.1, 0.05), (0.9, 0.02, 0.02), (0.2, 0.5, 0.1)])
def test_intervals_of_differences_cover(both: float, first: float, second: float) -> None:
    """4000 simulated audits of 60 victims each: coverage at 95 % is between 93 and 99 % (standard error 0.35 %)."""
    generator = np.random.default_rng(0)
    truth, covered_paired, covered_unpaired, covered_double = first - second, 0, 0, 0
    for _ in range(4000):
        kind = generator.choice(4, 60, p=[both, first, second, 1 - both - first - second])
        a, b = kind <= 1, (kind == 0) | (kind == 2)
        other = generator.random(60) < both + second
        pair = paired(a, b)
        low, high = pair.limits(0.95)
        assert low <= a.mean() - b.mean() <= high
        covered_paired += low <= truth <= high
        low, high = unpaired(a, other).limits(0.95)
        covered_unpaired += low <= truth <= high
        kind = generator.choice(4, 60, p=[both, first, second, 1 - both - first - second])
        low, high = pair.minus(paired(kind <= 1, (kind == 0) | (kind == 2))).limits(0.95)
        covered_double += low <= 0 <= high
    for covered in (covered_paired, covered_unpaired, covered_double):
        assert 0.93 < covered / 4000 <= 1.0


def test_ssim_equals_the_formula_pixel_by_pixel() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.random((2, 14, 14))
    reach = np.arange(-5, 6)
    window = np.exp(-(reach[:, None] ** 2 + reach**2) / 4.5)
    window /= window.sum()
    padded = [np.pad(x, 5, mode="symmetric") for x in (a, b)]
    values = []
    for y in range(14):
        for x in range(14):
            p, q = (image[y : y + 11, x : x + 11] for image in padded)
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            covariance = (window * (p - mp) * (q - mq)).sum()
            values.append((2 * mp * mq + 1e-4) * (2 * covariance + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    assert ssim(a[None], b[None], 1.0)[0] == pytest.approx(np.mean(values), rel=1e-9)
    assert ssim(a[None], a[None], 1.0)[0] == pytest.approx(1.0)


def test_similarity_of_tables_is_a_correlation_in_public_units() -> None:
    public = np.random.default_rng(0).normal([5, -2, 0], [10, 0.1, 1], (200, 3)).astype(np.float32)
    alike = Similarity.of(public)
    own = public.mean(axis=0) + public.std(axis=0) * np.array([1, -1, 0.5])
    assert alike(own[None], own[None])[0] == pytest.approx(1)
    opposite = public.mean(axis=0) - public.std(axis=0) * np.array([1, -1, 0.5])
    assert alike(own[None], opposite[None])[0] == pytest.approx(-1)


def test_student_interval_of_a_mean() -> None:
    measure = averaged(np.array([1.0, 2.0, 3.0, 4.0]), 0.95, "SSIM")
    # t(0.975, 3) = 3.1824; s = 1.2910.
    assert (measure.low, measure.high) == (pytest.approx(2.5 - 2.0543, abs=1e-3), pytest.approx(2.5 + 2.0543, abs=1e-3))
    assert averaged(np.array([1.0]), 0.95, "SSIM").low is None


def test_a_model_that_remembers_gives_the_attribute_of_members_away() -> None:
    """The attribute is a coin, so public data tell nothing, and the model knows it for members exactly."""
    remembers = stage(Remembers(PRIVATE.take(INSIDE)))
    out = AttributeInference(column="sex", prior="marginal").play(remembers, seeds=SEEDS)
    figures = out.measures
    assert figures["accuracy_members"].value == 1.0
    # A coin: 200 victims fix its share to 0.035.
    assert figures["accuracy_nonmembers"].value == pytest.approx(0.5, abs=0.14)
    for base in (figures["accuracy_members"].baseline, figures["accuracy_nonmembers"].baseline):
        assert base.value == pytest.approx(0.5, abs=0.14)
    assert figures["accuracy_most_confident_members"].value == 1.0
    assert figures["training_effect"].low > 0.3
    assert figures["advantage_over_imputation"].low > 0.3
    assert figures["accuracy_members"].n == int(INSIDE.sum())
    # It beats the most frequent class nowhere but on its members, so it is no evidence of a useful model.
    assert out.informative is False
    assert all(example.original == example.reconstruction for example in out.examples)
    assert set(out.threat) == {"holds", "knows", "goal"}


@pytest.mark.parametrize("prior", ["imputation", "marginal"])
def test_a_model_that_knows_nothing_shows_no_training_effect(prior: str) -> None:
    """False failures: the interval of a true 0 misses it one time in twenty; seeds are fixed."""
    blank = Remembers(PRIVATE.take(np.zeros(400, bool)))
    out = AttributeInference(column="town", prior=prior).play(stage(blank), seeds=SEEDS)
    effect = out.measures["training_effect"]
    assert effect.low <= 0 <= effect.high
    assert out.measures["accuracy_members"].value == pytest.approx(0.5, abs=0.14)


def test_binned_numbers_are_attributes_too() -> None:
    """The lookup knows exact rows only, and a bin's median is no member's age: the candidates all look unknown."""
    out = AttributeInference(column="age", bins=3).play(stage(Remembers(PRIVATE.take(INSIDE))), seeds=SEEDS)
    assert out.measures["accuracy_members"].value == pytest.approx(1 / 3, abs=0.14)


def test_records_without_the_attribute_are_no_victims() -> None:
    features = PRIVATE.features.copy()
    features[:30, 3:5] = 0
    private = Rows(features, PRIVATE.labels, PRIVATE.records, 2, "t", None, COLUMNS)
    out = AttributeInference(column="sex").play(stage(Remembers(private), private=private), seeds=SEEDS)
    assert sum(out.measures[f"accuracy_{side}"].n for side in ("members", "nonmembers")) == 370
    assert "30 records have no 'sex'" in out.notes[0]
    few = PRIVATE.take(np.arange(20))
    with pytest.raises(IncompatibleError, match="it takes 20 of each"):
        AttributeInference(column="sex").play(stage(Remembers(few), private=few), seeds=SEEDS)


def pictures(count: int, seed: int) -> Rows:
    generator = np.random.default_rng(seed)
    prototypes = np.random.default_rng(0).random((4, 1, 8, 8))
    labels = np.arange(count) % 4
    features = np.clip(prototypes[labels] + 0.15 * generator.normal(size=(count, 1, 8, 8)), 0, 1).astype(np.float32)
    return Rows(features, labels, tuple(f"p{seed}-{i}" for i in range(count)), 4, "pictures")


class Matcher(torch.nn.Module):
    """Logits: minus ten times the squared distance to each class's picture. Its inversion is that picture."""

    def __init__(self, pictures: NDArray[Any]) -> None:
        super().__init__()
        self.pictures = torch.nn.Parameter(torch.from_numpy(pictures.astype(np.float32)))
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -(self.drop(x)[:, None] - self.pictures).square().flatten(2).sum(2)


def inverted(**options: Any) -> dict[str, Any]:
    public, private = pictures(80, 1), pictures(200, 2)
    prototypes = np.random.default_rng(0).random((4, 1, 8, 8))
    model = Matcher(prototypes).train()
    out = ModelInversion(**options).play(
        stage(TorchTarget(model, "cpu"), model, population=public, private=private), seeds=SEEDS
    )
    assert model.training
    assert out.informative
    return {"outcome": out, **out.measures}


def test_inversion_shows_the_class_to_who_has_no_records_of_it() -> None:
    found = inverted(knows="others", keep=0.0)
    base = found["similarity_to_class"].baseline
    assert found["similarity_to_class"].value > base.value + 0.2
    assert found["gain_over_public_data"].low > 0
    assert found["confidence"].value > 0.9
    # The model holds no single record, so members are no nearer than others: Student's 95 % over four classes.
    assert found["training_effect"].low <= 0 <= found["training_effect"].high
    examples = found["outcome"].examples
    assert len(examples) == 4
    assert np.asarray(examples[0].to_json()["reconstruction"]).shape == (8, 8)


def test_inversion_tells_nothing_new_to_who_has_records_of_the_class() -> None:
    found = inverted(knows="class")
    assert abs(found["gain_over_public_data"].value) < 0.1
    assert found["similarity_to_class"].baseline.value > 0.8


def test_inversion_of_a_model_that_holds_one_record_finds_that_record() -> None:
    """The class's picture in the model *is* a member: the training effect must show it."""
    public, private = pictures(80, 1), pictures(200, 2)
    held = np.stack([private.features[INSIDE[:200] & (private.labels == c)][0] for c in range(4)])
    model = Matcher(held)
    out = ModelInversion(knows="class", keep=0.0, steps=800, learning_rate=0.1).play(
        stage(TorchTarget(model, "cpu"), model, population=public, private=private), seeds=SEEDS
    )
    effect = out.measures["training_effect"]
    assert effect.value > effect.baseline.value


def test_inversion_needs_weights_numbers_and_enough_records() -> None:
    public, few = pictures(80, 1), pictures(6, 2)
    model = Matcher(np.random.default_rng(0).random((4, 1, 8, 8)))
    with pytest.raises(IncompatibleError, match="trainer made a dict"):
        ModelInversion().play(stage(TorchTarget(model, "cpu"), {}, public, public), seeds=SEEDS)
    with pytest.raises(IncompatibleError, match="use more audit records"):
        ModelInversion().play(stage(TorchTarget(model, "cpu"), model, public, few), seeds=SEEDS)
    with pytest.raises(ConfigError, match="knows must be one of"):
        ModelInversion(knows="all")  # type: ignore[arg-type]
    assert isinstance(ModelInversion(), Game)
    assert isinstance(AttributeInference(column="x"), Game)


AUDIT = """
[audit]
name = "people"
access = ["weights"]
[data]
path = "people.csv"
target = "rich"
[design]
audit_records = 300
[trainer]
name = "sgd"
epochs = 60
hidden = [64]
optimizer = "adam"
learning_rate = 0.01
[[attack]]
name = "attribute-inference"
column = "town"
[[attack]]
name = "model-inversion"
knows = "others"
"""


def test_both_games_in_an_audit(tmp_path: Path, monkeypatch) -> None:
    import pandas as pd

    from leakgauge.audit.conduct import conduct

    generator = np.random.default_rng(0)
    age, town = generator.normal(50, 10, 600), generator.choice(["north", "south", "west"], 600)
    rich = (age + 12 * (town == "north") + generator.normal(0, 8, 600) > 54).astype(int)
    frame = pd.DataFrame({"age": age, "height": generator.normal(170, 9, 600), "town": town, "rich": rich})
    frame.to_csv(tmp_path / "people.csv", index=False)
    (tmp_path / "audit.toml").write_text(AUDIT)
    monkeypatch.chdir(tmp_path)
    conduct(tmp_path / "audit.toml", tmp_path / "out", [], device="cpu", quiet=True, command="test")
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert audit["status"] == "ok", [f.get("evidence") for f in audit["findings"]]
    rules = {f["attack"]: f for f in audit["findings"]}
    assert rules["attribute-inference"]["rule"].startswith("attribute.")
    measures = rules["attribute-inference"]["metrics"]["measures"]
    assert measures["accuracy_members"]["n"] + measures["accuracy_nonmembers"]["n"] == 300
    assert measures["accuracy_members"]["value"] > 1 / 3
    assert rules["model-inversion"]["metrics"]["measures"]["confidence"]["value"] > 0.9
