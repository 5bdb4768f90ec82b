"""Whole audits of what users bring: a forest, their own training function, a service that gives labels only."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from leakgauge.audit.conduct import conduct
from leakgauge.audit.errors import ConfigError, IncompatibleError, PrerequisiteError

TRAINED = """
[audit]
name = "trained"
seed = 5
access = ["{access}"]
[data]
name = "digits"
label_noise = 0.2
limit = 800
[design]
audit_records = 400
[trainer]
{trainer}
{attacks}
"""
FOREST = 'name = "sklearn"\nestimator = "sklearn.ensemble:RandomForestClassifier"\nparameters = { n_estimators = 20 }'

USERS_TRAINER = '''
import json
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from leakgauge.audit.types import Trained


class Nearest:
    """Soft nearest neighbours: remembers its rows, as leaky as can be."""

    def __init__(self, points, labels, classes):
        self.points, self.labels, self.classes = points, labels, classes

    def log_probabilities(self, features):
        flat = features.reshape(len(features), -1)
        distance = ((flat[:, None] - self.points) ** 2).sum(axis=2)
        weight = np.exp(-4 * distance) + 1e-9
        votes = weight @ (self.labels[:, None] == np.arange(self.classes))
        return np.log((votes + 1e-6) / (votes + 1e-6).sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Remember:
    name: ClassVar[str] = "remember"
    calls: str = ""

    def fit(self, data, rows, *, seeds, device, checkpoint=None):
        if self.calls:
            with open(self.calls, "a") as log:
                log.write("fit\\n")
        own = data.take(rows)
        model = Nearest(own.features.reshape(len(own), -1), own.labels, data.classes)
        return Trained(model, model, None, 1)

    def save(self, trained, folder):
        np.savez(folder / "rows.npz", points=trained.model.points, labels=trained.model.labels)
        (folder / "train.json").write_text(json.dumps({"steps": 1}))

    def load(self, folder, data, *, device):
        stored = np.load(folder / "rows.npz")
        model = Nearest(stored["points"], stored["labels"], data.classes)
        return Trained(model, model, None, 1)
'''


def attacks(*names: str) -> str:
    return "".join(f'[[attack]]\nname = "{name}"\n' if "\n" not in name else f"[[attack]]\n{name}\n" for name in names)


def run(folder: Path, text: str, *settings: str) -> dict[str, Any]:
    (folder / "audit.toml").write_text(text)
    conduct(folder / "audit.toml", folder / "out", list(settings), device="cpu", quiet=True, command="test")
    audit: dict[str, Any] = json.loads((folder / "out" / "audit.json").read_text())
    return audit


def auc(audit: dict[str, Any]) -> dict[str, float]:
    return {f["attack"]: f["metrics"]["auc"]["value"] for f in audit["findings"]}


def test_a_random_forest_and_its_shadows(tmp_path):
    wanted = attacks('name = "lira"\nshadows = 8', "quantile", 'name = "label-only-boundary"\nbudget = 60\nrounds = 1')
    audit = run(tmp_path, TRAINED.format(access="logits", trainer=FOREST, attacks=wanted))
    assert audit["status"] == "ok"
    # A forest remembers its rows, noisy labels included.
    measured = auc(audit)
    assert measured["lira"] > 0.75
    assert min(measured.values()) > 0.6
    assert audit["controls"]["negative"]["passed"] is True
    first = audit["findings"]
    models = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "models").iterdir()}
    assert len(models) == 9
    assert run(tmp_path, TRAINED.format(access="logits", trainer=FOREST, attacks=wanted))["findings"] == first
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "models").iterdir()} == models


def test_a_users_training_function_trains_the_shadows_too(tmp_path, monkeypatch):
    (tmp_path / "users_remember.py").write_text(USERS_TRAINER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    calls = tmp_path / "calls.txt"
    trainer = f'name = "users_remember:Remember"\ncalls = "{calls}"'
    audit = run(
        tmp_path, TRAINED.format(access="logits", trainer=trainer, attacks=attacks('name = "lira"\nshadows = 8', "gap"))
    )
    assert audit["status"] == "ok"
    assert calls.read_text().count("fit") == 9
    assert auc(audit)["lira"] > 0.95


def test_gradients_of_a_forest_cannot_be_seen(tmp_path):
    text = TRAINED.format(access="weights", trainer=FOREST, attacks=attacks("gradient-norm"))
    with pytest.raises(IncompatibleError, match="needs a torch module, this model is a RandomForestClassifier"):
        run(tmp_path, text)


def test_white_box_attacks_on_a_network(tmp_path):
    trainer = 'name = "sgd"\nepochs = 30\nhidden = [64]\noptimizer = "adam"\nlearning_rate = 0.003'
    wanted = attacks('name = "white-box"\nshadows = 8', "gradient-norm", 'name = "loss-trajectory"\nepochs = 8')
    audit = run(tmp_path, TRAINED.format(access="weights", trainer=trainer, attacks=wanted))
    assert audit["status"] == "ok"
    measured = auc(audit)
    assert measured["white-box"] > 0.6
    assert measured["gradient-norm"] > 0.55
    assert measured["loss-trajectory"] > 0.6


SERVED = """
[audit]
name = "served"
access = ["labels"]
[data]
path = "data.npz"
preprocessing_fit = "none"
[target]
url = "{url}"
labels_only = true
batch_size = 500
rate_limit = 1000.0
retries = 0
[design]
membership = "members.csv"
[[attack]]
name = "gap"
[[attack]]
name = "label-only-augment"
count = 5
[[attack]]
name = "label-only-boundary"
budget = 40
rounds = 1
"""


class LabelServer(http.server.BaseHTTPRequestHandler):
    """A forest that overfits the members, behind a URL that gives labels only and counts what it is asked."""

    forest: ClassVar[Any] = None
    asked: ClassVar[list[bytes]] = []
    breaks_after: ClassVar[int | None] = None

    def do_POST(self) -> None:
        features = np.array(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["features"])
        broken = LabelServer.breaks_after is not None and len(LabelServer.asked) >= LabelServer.breaks_after
        features = features.astype(np.float32).reshape(len(features), -1)
        self.send_response(503 if broken else 200)
        self.end_headers()
        if not broken:
            LabelServer.asked += [row.tobytes() for row in features]
            labels = LabelServer.forest.predict(features)
            self.wfile.write(json.dumps({"labels": labels.tolist()}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(tmp_path) -> Iterator[str]:
    import pandas as pd
    from sklearn.datasets import load_digits
    from sklearn.tree import DecisionTreeClassifier

    from leakgauge.trainers.data import DataSpec, load_table

    x, y = load_digits(return_X_y=True)
    x = (x[:700] / 16).astype(np.float32)
    generator = np.random.default_rng(0)
    y = np.where(generator.random(700) < 0.3, generator.integers(0, 10, 700), y[:700])
    np.savez(tmp_path / "data.npz", x=x, y=y)
    inside = generator.random(500) < 0.5
    ids = load_table(DataSpec(path=str(tmp_path / "data.npz"), seed=0)).records[:500]
    pd.DataFrame({"record": ids, "inside": inside}).to_csv(tmp_path / "members.csv", index=False)
    LabelServer.forest = DecisionTreeClassifier(random_state=0).fit(x[:500][inside], y[:500][inside])
    LabelServer.asked, LabelServer.breaks_after = [], None
    server = http.server.HTTPServer(("127.0.0.1", 0), LabelServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_a_service_that_gives_labels_only(tmp_path, service, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = SERVED.format(url=service)
    LabelServer.breaks_after = 2000
    with pytest.raises(PrerequisiteError, match="HTTP 503"):
        run(tmp_path, text)
    assert len(LabelServer.asked) >= 2000
    LabelServer.breaks_after = None
    audit = run(tmp_path, text)
    assert audit["status"] == "ok"
    measured = auc(audit)
    # A full tree knows its noisy rows; being right on a row is all that the gap attack sees.
    assert measured["gap"] > 0.65
    assert measured["label-only-boundary"] > measured["gap"] - 0.05
    assert measured["label-only-augment"] > measured["gap"] - 0.05
    # Nothing is asked twice: not by another attack, not after the failure, and not by another run.
    asked = len(LabelServer.asked)
    assert len(set(LabelServer.asked)) == asked
    # One query a record for all attacks; of the 500 audit records four shifts, and the rest of the budget of 40.
    assert asked <= 700 + 500 * (4 + 39)
    run(tmp_path, text)
    assert len(LabelServer.asked) == asked
    assert audit["system"]["trainers"][0]["spec"]["url"] == service


def test_an_existing_network_is_asked_for_gradients_and_distilled(tmp_path, service, monkeypatch):
    from safetensors.torch import save_file

    from leakgauge.audit.seeds import Seeds
    from leakgauge.trainers.data import DataSpec, load_data
    from leakgauge.trainers.sgd import Sgd

    monkeypatch.chdir(tmp_path)
    rows = load_data(DataSpec(path="data.npz", preprocessing_fit="none", seed=0)).rows
    members = np.zeros(len(rows), bool)
    members[:500] = np.loadtxt("members.csv", delimiter=",", skiprows=1, usecols=1, dtype=str) == "True"
    trainer = Sgd(hidden=(64,), epochs=60, optimizer="adam", learning_rate=0.003, batch_size=32)
    save_file(trainer.fit(rows, members, seeds=Seeds(0), device="cpu").model.state_dict(), "model.safetensors")
    (tmp_path / "users_net.py").write_text(
        "import torch\ndef build(shape, classes):\n    return torch.nn.Sequential(\n"
        "        torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    head, tail = SERVED.split("[target]")[0], SERVED.split("[design]")[1].split("[[attack]]")[0]
    target = '[target]\npath = "model.safetensors"\nbuilder = "users_net:build"\n[design]'
    wanted = attacks("gradient-norm", "quantile", 'name = "loss-trajectory"\nshadows = 0\nepochs = 8\nhidden = 64')
    audit = run(tmp_path, head.replace('"labels"', '"weights"') + target + tail + wanted)
    assert audit["status"] == "ok"
    assert min(auc(audit).values()) > 0.6
    assert not LabelServer.asked


def test_labels_only_goes_with_access_to_labels_only(tmp_path, service, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"access = \['labels'\]"):
        run(tmp_path, SERVED.format(url=service), "audit.access=['logits']")
    with pytest.raises(IncompatibleError, match="needs access to loss"):
        run(tmp_path, SERVED.format(url=service).replace('"gap"', '"loss"'))
    assert not LabelServer.asked


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('estimator = "a:b"\nrate_limit = 3.0', "rate_limit belongs to a target given by predict or url"),
        ('url = "http://x"\ntokenize = true', "tokenize belongs to a target given by huggingface"),
        ('url = "http://x"\nheaders = { key = "abc" }', "write '\\$NAME'"),
        ('url = "http://x"\nratelimit = 3', "did you mean 'target.rate_limit'|rate_limit"),
        ('url = "http://x"\nrate_limit = -1.0', "greater than 0"),
    ],
)
def test_keys_of_a_target_that_do_not_fit(tmp_path, keys, words):
    text = SERVED.replace('url = "{url}"\nlabels_only = true\nbatch_size = 500\nrate_limit = 1000.0\nretries = 0', keys)
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, text)
