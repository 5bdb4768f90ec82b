from __future__ import annotations

import pytest
import torch

from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.models import ModelSpec, build_model


@pytest.mark.parametrize(
    ("name", "shape"), [("mlp", (12,)), ("mlp", (1, 4, 4)), ("cnn", (3, 8, 9)), ("logistic", (5,))]
)
def test_built_in_models_give_logits(name: str, shape: tuple[int, ...]) -> None:
    module = build_model(ModelSpec(name), shape, 4, seeds=Seeds(1))
    assert module(torch.zeros(6, *shape)).shape == (6, 4)


def test_weights_follow_the_seeds_and_leave_global_randomness_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (build_model(ModelSpec(), (7,), 2, seeds=Seeds(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_dropout_is_placed() -> None:
    for name, shape in (("mlp", (7,)), ("cnn", (1, 4, 4))):
        module = build_model(ModelSpec(name, dropout=0.4), shape, 2, seeds=Seeds(1))
        assert [m.p for m in module.modules() if isinstance(m, torch.nn.Dropout)] == [0.4]


def test_module_attr() -> None:
    module = build_model(ModelSpec("leakgauge_test_models:narrow"), (3,), 2, seeds=Seeds(1))
    assert isinstance(module, torch.nn.Linear)
    with pytest.raises(IncompatibleError, match="returned int"):
        build_model(ModelSpec("leakgauge_test_models:number"), (3,), 2, seeds=Seeds(1))


@pytest.fixture(autouse=True)
def user_module(tmp_path, monkeypatch) -> None:
    (tmp_path / "leakgauge_test_models.py").write_text(
        "from torch import nn\n"
        "def narrow(shape, classes):\n    return nn.Linear(shape[0], classes)\n"
        "def number(shape, classes):\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [({"name": "mpl"}, "did you mean 'mlp'"), ({"dropout": 1.0}, "dropout"), ({"hidden": (0,)}, "hidden")],
)
def test_bad_specs(spec: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelSpec(**spec)


def test_cnn_refuses_vectors() -> None:
    with pytest.raises(ConfigError, match=r"got records of shape .64,"):
        build_model(ModelSpec("cnn"), (64,), 10, seeds=Seeds(1))
