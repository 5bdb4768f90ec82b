from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import log_softmax

from leakgauge.audit.errors import ConfigError, IncompatibleError, StaleArtifactError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows
from leakgauge.trainers.models import ModelSpec, build_model
from leakgauge.trainers.targets import (
    CallableTarget,
    EstimatorTarget,
    TorchTarget,
    load_estimator,
    load_target,
    load_torch_target,
)


def test_torch_target_is_log_softmax_in_batches(images: Rows) -> None:
    module = build_model(ModelSpec("cnn", dropout=0.5), (2, 6, 6), 4, seeds=Seeds(1)).double()
    features = np.concatenate([images.features] * 20)  # more than one chunk
    answers = TorchTarget(module, "cpu").log_probabilities(features)
    assert answers.dtype == np.float32
    with torch.no_grad():
        logits = module.eval()(torch.from_numpy(features).double()).numpy()
    np.testing.assert_allclose(answers, log_softmax(logits, axis=1), atol=1e-5)
    np.testing.assert_array_equal(answers, TorchTarget(module, "cpu").log_probabilities(features))


def test_torch_target_asks_in_evaluation_mode_and_restores_the_mode(images: Rows) -> None:
    module = build_model(ModelSpec(dropout=0.5), (2, 6, 6), 4, seeds=Seeds(1))
    expected = TorchTarget(module.eval(), "cpu").log_probabilities(images.features)
    module.train()
    module[1].eval()
    target = TorchTarget(module, "cpu")
    np.testing.assert_array_equal(target.log_probabilities(images.features), expected)
    modes = [part.training for part in module.modules()]
    assert modes == [True, True, False, True, True, True][: len(modes)]


class AlwaysDrops(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x.flatten(1), 0.5, training=True)


class LooksAtTheBatch(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) - x.flatten(1).mean(dim=0)


@pytest.mark.parametrize(
    ("module", "words"), [(AlwaysDrops(), "different answers to the same"), (LooksAtTheBatch(), "others in the batch")]
)
def test_torch_target_refuses_answers_that_are_no_function_of_the_record(images: Rows, module, words) -> None:
    with pytest.raises(IncompatibleError, match=words):
        TorchTarget(module, "cpu").log_probabilities(images.features)


def test_torch_target_wants_logits() -> None:
    with pytest.raises(IncompatibleError, match=r"returned \(3, 2, 4\) for 3 records"):
        TorchTarget(torch.nn.Identity(), "cpu").log_probabilities(np.zeros((3, 2, 4), np.float32))


def test_read_only_features(images: Rows) -> None:
    frozen = images.features.copy()
    frozen.flags.writeable = False
    module = build_model(ModelSpec(), (2, 6, 6), 4, seeds=Seeds(1))
    assert len(TorchTarget(module, "cpu").log_probabilities(frozen)) == 60


def test_estimator_target(images: Rows) -> None:
    from sklearn.linear_model import LogisticRegression

    flat = images.features.reshape(60, -1)
    seen = images.labels != 2
    estimator = LogisticRegression(max_iter=500).fit(flat[seen], images.labels[seen])
    answers = EstimatorTarget(estimator, 4).log_probabilities(images.features)
    np.testing.assert_allclose(np.exp(answers[:, [0, 1, 3]]), estimator.predict_proba(flat), rtol=1e-5, atol=1e-7)
    assert (answers[:, 2] < -60).all()
    assert np.isfinite(answers).all()


def test_estimators_that_cannot_be_audited() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    with pytest.raises(IncompatibleError, match="LinearSVC has no predict_proba"):
        EstimatorTarget(LinearSVC())
    with pytest.raises(IncompatibleError, match="not fitted"):
        EstimatorTarget(LogisticRegression())
    words = LogisticRegression().fit(np.array([[0.0], [1.0]]), np.array(["no", "yes"]))
    with pytest.raises(IncompatibleError, match="must be integers"):
        EstimatorTarget(words)
    three = LogisticRegression().fit(np.array([[0.0], [1.0]]), np.array([1, 3]))
    with pytest.raises(IncompatibleError, match="knows class 3, the data has 2"):
        EstimatorTarget(three, 2)


def test_callable_target() -> None:
    target = CallableTarget(lambda x: np.stack([x[:, 0], 1 - x[:, 0]], axis=1))
    answers = target.log_probabilities(np.linspace(0, 1, 3000)[:, None])
    assert answers.shape == (3000, 2)
    assert answers[1500, 0] == pytest.approx(np.log(1500 / 2999), abs=1e-5)
    assert np.isfinite(answers).all()


@pytest.mark.parametrize(
    "answer", [np.zeros((3, 2)), np.full((3, 2), np.nan), np.array([[2.0, -1.0]] * 3), np.ones(3), np.ones((2, 1))]
)
def test_answers_that_are_no_probabilities(answer: np.ndarray) -> None:
    with pytest.raises(IncompatibleError, match="target"):
        CallableTarget(lambda _: answer).log_probabilities(np.zeros((3, 1)))


def test_labels_only_answers_are_one_hot(images: Rows) -> None:
    from sklearn.svm import LinearSVC

    flat = images.features.reshape(60, -1)
    machine = LinearSVC().fit(flat, images.labels)
    answers = EstimatorTarget(machine, 4, labels_only=True).log_probabilities(images.features)
    np.testing.assert_array_equal(answers.argmax(axis=1), machine.predict(flat))
    np.testing.assert_allclose(np.exp(answers).sum(axis=1), 1)
    same = CallableTarget(machine.predict, 4, labels_only=True)
    np.testing.assert_array_equal(same.log_probabilities(flat), answers)
    with pytest.raises(ConfigError, match="number of classes"):
        CallableTarget(machine.predict, labels_only=True)


@pytest.mark.parametrize("labels", [[0, 1, 4], [0, 1, -1], [0, 1], [0.5, 1, 1], ["a", "b", "c"], [[0, 1, 1]]])
def test_answers_that_are_no_labels(labels) -> None:
    with pytest.raises(IncompatibleError, match="not labels"):
        CallableTarget(lambda _: labels, 4, labels_only=True).log_probabilities(np.zeros((3, 1)))


def test_load_torch_target(images: Rows, tmp_path: Path) -> None:
    module = build_model(ModelSpec(), (2, 6, 6), 4, seeds=Seeds(1))
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    loaded = load_torch_target(tmp_path / "weights.safetensors", "mlp", (2, 6, 6), 4, device="cpu")
    expected = TorchTarget(module, "cpu").log_probabilities(images.features)
    np.testing.assert_array_equal(loaded.log_probabilities(images.features), expected)
    path = str(tmp_path / "weights.safetensors")
    same = load_target(data=images, device="cpu", path=path, model="mlp")
    np.testing.assert_array_equal(same.log_probabilities(images.features), expected)
    with pytest.raises(StaleArtifactError, match="weights cannot be loaded"):
        load_target(data=images, device="cpu", path=path, builder="logistic")
    with pytest.raises(ConfigError, match="no file"):
        load_target(data=images, device="cpu", path="absent.safetensors", model="mlp")


def test_load_estimator_and_callable(images: Rows, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "leakgauge_users_model.py").write_text(
        "import numpy as np\n"
        "class Fair:\n"
        "    classes_ = np.arange(4)\n"
        "    def predict_proba(self, x):\n        return np.full((len(x), 4), 0.25)\n"
        "ready = Fair()\n"
        "def make():\n    return Fair()\n"
        "def predict(x):\n    return np.full((len(x), 4), 0.25)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_estimator("leakgauge_users_model:ready") is load_estimator("leakgauge_users_model:ready")
    for options in (
        {"estimator": "leakgauge_users_model:ready"},
        {"estimator": "leakgauge_users_model:make"},
        {"predict": "leakgauge_users_model:predict"},
    ):
        answers = load_target(data=images, device="cpu", **options).log_probabilities(images.features)
        np.testing.assert_allclose(answers, np.log(0.25), rtol=1e-6)
    with pytest.raises(ConfigError, match="has no 'absent'"):
        load_target(data=images, device="cpu", predict="leakgauge_users_model:absent")


def test_load_target_needs_a_source(images: Rows) -> None:
    with pytest.raises(ConfigError, match="give one of"):
        load_target(data=images, device="cpu")
