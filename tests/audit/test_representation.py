"""Whether learned features are worth anything: against models whose worth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from leakgauge.audit.conduct import conduct
from leakgauge.audit.representation import Compared, probe_correct, reconstruction_errors, representation_utility
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows

SEEDS = Seeds(3)


class Linear:
    """Projects on the first `keep` columns of an orthonormal basis, and back."""

    def __init__(self, basis: np.ndarray, keep: int) -> None:
        self.basis = basis[:, :keep].astype(np.float32)

    def encode(self, features):
        return features @ self.basis

    def reconstruct(self, features):
        return features @ self.basis @ self.basis.T


def public(count=400):
    """Ten columns; the two that carry the label are large and come first in the basis."""
    generator = SEEDS.at("public").generator()
    labels = generator.integers(2, size=count)
    values = generator.normal(size=(count, 10)) * np.array([3, 3] + [0.3] * 8)
    values[:, 0] += 6 * labels
    basis = np.linalg.qr(generator.normal(size=(10, 10)))[0]
    ids = tuple(f"p{i}" for i in range(count))
    return Rows((values @ basis.T).astype(np.float32), labels, ids, 2), basis


def test_a_projection_that_keeps_what_matters_has_learned():
    rows, basis = public()
    found = representation_utility(Linear(basis, 2), Linear(basis[:, ::-1], 2), rows, seeds=SEEDS)
    values = found["representation"]
    assert found["learned"] is True
    assert (values["probe_rows"], values["test_rows"]) == (200, 200)
    # What is cut off: eight columns of variance 0.09, halved.
    assert values["reconstruction_error"] == pytest.approx(8 * 0.09 / 2, rel=0.15)
    # A shift of 6 at a deviation of 3: Phi(1) = .84; the last columns know nothing. 200 rows: 5 standard errors.
    assert values["probe_accuracy"]["value"] == pytest.approx(0.84, abs=0.13)
    assert values["raw_accuracy"]["value"] == pytest.approx(0.84, abs=0.13)
    assert values["untrained_accuracy"]["value"] == pytest.approx(0.5, abs=0.18)
    assert found["test_accuracy"] == values["probe_accuracy"]


def test_a_model_no_better_than_the_mean_row_or_than_before_training_has_not():
    rows, basis = public()
    same = representation_utility(Linear(basis, 2), Linear(basis, 2), rows, seeds=SEEDS)
    last = basis[:, ::-1]
    nothing = representation_utility(Linear(last, 2), Linear(last, 1), rows, seeds=SEEDS)
    assert same["learned"] is False
    assert nothing["learned"] is False


def test_too_few_public_rows_say_nothing():
    rows, basis = public(10)
    assert representation_utility(Linear(basis, 2), Linear(basis, 0), rows, seeds=SEEDS) == {}


def test_errors_by_hand():
    features = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32)
    assert reconstruction_errors(Linear(np.eye(2), 1), features).tolist() == [8.0, 0.0]
    one_column = np.array([[0.0], [1.0], [0.2], [0.9]], np.float32)
    assert probe_correct(one_column, np.array([0, 1, 0, 1]), one_column, np.array([0, 1, 1, 1])).tolist() == [
        True,
        True,
        False,
        True,
    ]
    figures = np.arange(8.0)
    assert Compared(figures, figures + 1 + figures % 2, figures + 2 + figures % 2).model_is_less()
    assert not Compared(figures, figures, figures + 2).model_is_less()


def test_a_model_that_learned_nothing_seldom_passes_for_one_that_did():
    # Errors with a heavy tail, no true gap to the mean row and a sure one to the untrained network: two standard errors
    # are passed by 2.3 %. 4000 trials: 2.3 % + 4 standard errors is 3.3 %, exceeded once in 10^4 seeds.
    generator = SEEDS.at("nothing").generator()
    passed = 0
    for _ in range(4000):
        model, plain = generator.gamma(2.0, size=(2, 200))
        passed += Compared(model, plain, model + 5 + generator.normal(size=200)).model_is_less()
    assert 0.01 < passed / 4000 < 0.033


TABULAR = """
[audit]
name = "unsupervised"
seed = 5
access = ["logits"]
[data]
name = "breast-cancer"
[design]
audit_records = 300
[[trainer]]
id = "plain"
name = "autoencoder"
hidden = [64]
code = 8
noise = 0.05
epochs = 120
batch_size = 32
learning_rate = 0.003
[[trainer]]
id = "private"
name = "dp-autoencoder"
hidden = [16]
code = 4
epochs = 4
batch_size = 50
noise_multiplier = 2.0
nominal_rows = 150
[[attack]]
name = "reconstruction-loss"
guesses = 60
"""


def test_unsupervised_training_of_a_table_is_audited(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text(TABULAR)
    conduct(path, tmp_path / "out", [], device="cpu", quiet=True, command="test")
    document = json.loads((tmp_path / "out" / "audit.json").read_text())
    found = {f["trainer"]: f for f in document["findings"]}
    assert found["plain"]["verdict"] == "no-claim"
    assert found["plain"]["metrics"]["auc"]["low"] > 0.6
    assert found["plain"]["bound"]["epsilon"] > 0
    assert found["private"]["bound"]["epsilon"] <= found["private"]["claim"]["epsilon"]
    worth = {u["trainer"]: u for u in document["utility"]}
    assert worth["plain"]["learned"] is True
    assert worth["plain"]["representation"]["reconstruction_error"] < worth["plain"]["representation"]["mean_row_error"]
    assert document["controls"]["negative"]["passed"] is True
    page = (tmp_path / "out" / "report.md").read_text()
    assert "Probe on learned features" in page
    # Four epochs under strong noise restore nothing: low leakage of such a model is no evidence.
    assert worth["private"]["learned"] is False
    assert (found["private"]["verdict"], found["private"]["reason"]) == ("underpowered", "uninformative")
