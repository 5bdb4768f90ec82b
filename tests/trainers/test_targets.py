from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import log_softmax

from leakgauge.audit.errors import ConfigError, IncompatibleError, PrerequisiteError, StaleArtifactError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows
from leakgauge.trainers.endpoint import EndpointTarget
from leakgauge.trainers.models import ModelSpec, build_model
from leakgauge.trainers.targets import (
    CallableTarget,
    EstimatorTarget,
    TorchTarget,
    load_estimator,
    load_huggingface_target,
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


def test_torch_target_refuses_training_mode(images: Rows) -> None:
    module = build_model(ModelSpec(dropout=0.5), (2, 6, 6), 4, seeds=Seeds(1))
    target = TorchTarget(module, "cpu")
    module[3].train()
    with pytest.raises(IncompatibleError, match="3 is in training mode"):
        target.log_probabilities(images.features)


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


def test_huggingface_sequence_classifier(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3
    )
    module = BertForSequenceClassification(config).eval()
    module.save_pretrained(tmp_path / "model")
    target = load_huggingface_target(str(tmp_path / "model"), device="cpu")
    tokens = Seeds(1).generator().integers(1, 30, (5, 8))
    tokens[:, 6:] = 0  # padding
    with torch.no_grad():
        short = module(torch.from_numpy(tokens[:, :6])).logits.numpy()
    np.testing.assert_allclose(target.log_probabilities(tokens), log_softmax(short, axis=1), atol=1e-5)


def test_huggingface_mistakes(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    with pytest.raises(ConfigError, match="needs revision"):
        load_huggingface_target("org/name", device="cpu")
    with pytest.raises(PrerequisiteError, match="cannot be loaded"):
        load_huggingface_target(str(tmp_path), device="cpu")
    config = BertConfig(vocab_size=5, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    BertModel(config).save_pretrained(tmp_path / "bare")
    with pytest.raises(IncompatibleError, match="BertModel is no sequence or image classifier"):
        load_huggingface_target(str(tmp_path / "bare"), device="cpu")


class _Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["features"]
        body = {"probabilities": [[x[0], 1 - x[0]] for x in asked]} if self.path == "/model" else {"error": 1}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_endpoint() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    try:
        answers = EndpointTarget(base + "/model").log_probabilities(np.array([[0.25], [0.5]]))
        np.testing.assert_allclose(np.exp(answers), [[0.25, 0.75], [0.5, 0.5]], rtol=1e-6)
        with pytest.raises(PrerequisiteError, match="no answer of the form"):
            EndpointTarget(base + "/else").log_probabilities(np.array([[0.25]]))
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(ConfigError, match="must start with http"):
        EndpointTarget("ftp://x")
