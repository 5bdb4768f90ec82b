from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from leakgauge.audit.errors import ConfigError, IncompatibleError, StaleArtifactError
from leakgauge.audit.plugs import identity_of
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows
from leakgauge.trainers.estimator import Estimator

HALF = np.arange(60) % 2 == 0
FOREST = Estimator(parameters={"n_estimators": 10})


def test_a_forest_is_that_of_scikit_learn_and_a_function_of_the_seeds(images: Rows) -> None:
    from sklearn.ensemble import RandomForestClassifier

    trained = FOREST.fit(images, HALF, seeds=Seeds(1), device="cpu")
    assert isinstance(trained.model, RandomForestClassifier)
    state = trained.model.get_params()["random_state"]
    flat = images.features.reshape(60, -1)
    same = RandomForestClassifier(10, random_state=state).fit(flat[HALF], images.labels[HALF])
    np.testing.assert_allclose(
        np.exp(trained.target.log_probabilities(images.features)), same.predict_proba(flat), atol=1e-6
    )
    again = FOREST.fit(images, HALF, seeds=Seeds(1), device="cpu")
    other = FOREST.fit(images, HALF, seeds=Seeds(2), device="cpu")
    np.testing.assert_array_equal(*(t.target.log_probabilities(images.features) for t in (trained, again)))
    assert (trained.target.log_probabilities(images.features) != other.target.log_probabilities(images.features)).any()


def test_saved_and_loaded_it_answers_alike_without_a_pickle(images: Rows, tmp_path: Path) -> None:
    trained = FOREST.fit(images, HALF, seeds=Seeds(1), device="cpu")
    FOREST.save(trained, tmp_path)
    loaded = FOREST.load(tmp_path, images, device="cpu")
    np.testing.assert_array_equal(*(t.target.log_probabilities(images.features) for t in (trained, loaded)))
    assert {p.name for p in tmp_path.iterdir()} == {"train.json", "again.npz"}
    assert json.loads((tmp_path / "train.json").read_text())["metrics"]["train_accuracy"] > 0.9
    moved = Rows(images.features[::-1].copy(), images.labels, images.records, 4)
    with pytest.raises(StaleArtifactError, match="answers otherwise"):
        FOREST.load(tmp_path, moved, device="cpu")
    (tmp_path / "again.npz").write_bytes(b"broken")
    with pytest.raises(StaleArtifactError, match="not a stored estimator"):
        FOREST.load(tmp_path, images, device="cpu")


def test_every_step_of_a_pipeline_is_seeded(images: Rows, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "leakgauge_users_pipeline.py").write_text(
        "from sklearn.pipeline import make_pipeline\nfrom sklearn.decomposition import PCA\n"
        "from sklearn.neural_network import MLPClassifier\n"
        "def make(width=8):\n"
        "    return make_pipeline(PCA(5, svd_solver='randomized'), MLPClassifier((width,), max_iter=20))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    trainer = Estimator("leakgauge_users_pipeline:make", {"width": 4})
    first, second = (trainer.fit(images, HALF, seeds=Seeds(3), device="cpu") for _ in range(2))
    np.testing.assert_array_equal(*(t.target.log_probabilities(images.features) for t in (first, second)))


def test_the_version_of_the_package_is_part_of_the_key() -> None:
    import sklearn

    assert identity_of(FOREST)["spec"]["package_version"] == sklearn.__version__
    with pytest.raises(ConfigError, match=r"package_version '0\.1'"):
        Estimator(package_version="0.1")


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        (lambda: Estimator(parameters={"trees": 3}), "n_estimators.*unexpected keyword argument 'trees'"),
        (lambda: Estimator("sklearn.ensemble:RandomForest"), "has no 'RandomForest'; did you mean"),
        (lambda: Estimator("collections:Counter"), "no scikit-learn estimator"),
    ],
)
def test_mistakes_are_found_before_training(trainer, words) -> None:
    with pytest.raises(ConfigError, match=words):
        trainer()


def test_mistakes_found_in_training(images: Rows) -> None:
    bad = Estimator(parameters={"n_estimators": -1})
    with pytest.raises(ConfigError, match="n_estimators"):
        bad.fit(images, HALF, seeds=Seeds(1), device="cpu")
    tokens = Rows(np.ones((60, 3), np.int64), images.labels, images.records, 4)
    with pytest.raises(IncompatibleError, match="tokens"):
        FOREST.fit(tokens, HALF, seeds=Seeds(1), device="cpu")
