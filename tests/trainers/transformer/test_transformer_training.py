"""Every trainer with a transformer: frozen weights stand still, are not sent, and are stored as a digest."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from leakgauge.audit.canaries import CanarySet
from leakgauge.audit.errors import IncompatibleError, StaleArtifactError
from leakgauge.audit.plugs import construct, identity_of
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Job, Rows, Unit
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.federated.trainer import DpFederated, Federated
from leakgauge.trainers.models import ModelSpec, build_model
from leakgauge.trainers.sgd import Sgd
from leakgauge.trainers.supermask.trainer import Supermask

FRESH = {"layers": 1, "width": 8}


@pytest.fixture(scope="module")
def words() -> Rows:
    """40 rows of the small tokenizer's ids; the class is the second token."""
    labels = (np.arange(40) % 2).astype(np.int64)
    tokens = np.zeros((40, 8), np.int64)
    generator = Seeds(5).generator()
    for row, label in enumerate(labels):
        length = int(generator.integers(2, 6))
        tokens[row, : length + 2] = [2, 4 + label, *generator.integers(6, 14, length - 1), 3]
    return Rows(tokens, labels, tuple(map(str, range(40))), 2, "words")


@pytest.fixture
def top(bert_folder) -> dict:
    return {"pretrained": str(bert_folder), "trained_layers": 1}


def half(rows: Rows) -> np.ndarray:
    return np.arange(len(rows)) % 4 < 2


def trained_names(model) -> set[str]:
    return {n for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("spec", [FRESH, "top"])
def test_sgd_learns_and_many_are_each_as_one(spec, top, words, tokens_data) -> None:
    given, rows = (top, words) if spec == "top" else (spec, tokens_data)
    trainer = Sgd(
        model="transformer", transformer=given, optimizer="adam", learning_rate=0.02, epochs=25, batch_size=10
    )
    jobs = [Job(half(rows), Seeds(1).at(k)) for k in range(2)]
    many = trainer.fit_many(rows, jobs, device="cpu")
    alone = trainer.fit(rows, jobs[1].inside, seeds=jobs[1].seeds, device="cpu")
    assert alone.metrics["train_accuracy"] > 0.9
    found, expected = (t.target.log_probabilities(rows.features) for t in (many[1], alone))
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["sgd", "dp-hooks", "dp-ghost", "federated", "dp-federated"])
def test_frozen_weights_stand_still(kind, top, words) -> None:
    private = {"noise_multiplier": 1.0, "nominal_rows": 20, "batch_size": 5, "epochs": 1}
    clients = {"clients": 4, "cohort": 4, "rounds": 1}
    trainer = {
        "sgd": lambda: Sgd(model="transformer", transformer=top, epochs=1, batch_size=5, weight_decay=0.1),
        "dp-hooks": lambda: DpSgd(model="transformer", transformer=top, weight_decay=0.1, **private),
        "dp-ghost": lambda: DpSgd(model="transformer", transformer=top, clipping="ghost", **private),
        "federated": lambda: Federated(model="transformer", transformer=top, **clients),
        "dp-federated": lambda: DpFederated(
            model="transformer", transformer=top, noise_multiplier=1.0, clip=1.0, **clients
        ),
    }[kind]()
    trained = trainer.fit(words, half(words), seeds=Seeds(1), device="cpu")
    start = build_model(ModelSpec("transformer", transformer=top), (8,), 2, seeds=Seeds(1)).state_dict()
    moved = {n for n, v in trained.model.state_dict().items() if not torch.equal(v, start[n])}
    assert moved <= trained_names(trained.model)
    assert {"head.weight", "encoder.encoder.layer.2.output.dense.weight"} <= moved
    if "federated" in kind:
        sent = trained.metrics["upload_bytes_per_client_round"]
        assert sent == 4 * sum(p.numel() for p in trained.model.parameters() if p.requires_grad)


def test_only_trained_weights_are_stored_and_the_others_are_named(tmp_path, top, words, bert_folder) -> None:
    from safetensors.torch import load_file, save_file

    moving = tmp_path / "bert"
    shutil.copytree(bert_folder, moving)
    trainer = Sgd(model="transformer", transformer={**top, "pretrained": str(moving)}, epochs=1, batch_size=5)
    trained = trainer.fit(words, half(words), seeds=Seeds(1), device="cpu")
    folder = tmp_path / "model"
    folder.mkdir()
    trainer.save(trained, folder)
    assert set(load_file(folder / "model.safetensors")) == trained_names(trained.model)
    again = trainer.load(folder, words, device="cpu")
    expected = trained.target.log_probabilities(words.features)
    np.testing.assert_array_equal(again.target.log_probabilities(words.features), expected)

    other = tmp_path / "other"
    shutil.copytree(moving, other)
    weights = load_file(other / "model.safetensors")
    weights["embeddings.LayerNorm.weight"] += 1e-3
    save_file(weights, other / "model.safetensors")
    changed = Sgd(model="transformer", transformer={**top, "pretrained": str(other)}, epochs=1, batch_size=5)
    with pytest.raises(StaleArtifactError, match="other frozen weights"):
        changed.load(folder, words, device="cpu")


def test_whole_models_are_stored_whole(tmp_path, words, tokenizer_folder) -> None:
    trainer = Sgd(
        model="transformer",
        transformer={"tokenizer": str(tokenizer_folder), "trained_layers": 1},
        epochs=1,
        batch_size=5,
    )
    trained = trainer.fit(words, half(words), seeds=Seeds(1), device="cpu")
    trainer.save(trained, tmp_path)
    again = trainer.load(tmp_path, words, device="cpu")
    expected = trained.target.log_probabilities(words.features)
    np.testing.assert_array_equal(again.target.log_probabilities(words.features), expected)


def test_a_private_model_starts_its_claim_and_hosts_canaries(top, words) -> None:
    trainer = DpSgd(model="transformer", transformer=top, noise_multiplier=1.0, nominal_rows=20, batch_size=5, epochs=1)
    assert trainer.fit(words, half(words), seeds=Seeds(1), device="cpu").claim == trainer.planned_claim(20)
    canaries = CanarySet("gradient-dirac", np.arange(6) % 2 == 0, Unit.RECORD, "steps", {"strength": 10.0})
    seen = trainer.fit_with_canaries(words, half(words), canaries, seeds=Seeds(1), device="cpu")
    assert np.isfinite(seen.transcript["projections"]).all()


def test_a_mask_on_the_top_layer(top, words) -> None:
    trainer = Supermask(
        model="transformer",
        transformer=top,
        frozen="model",
        fresh_head=True,
        rule="threshold",
        layers=("encoder.encoder.layer.2", "head"),
        learning_rate=0.05,
        epochs=2,
        batch_size=10,
    )
    jobs = [Job(half(words), Seeds(k)) for k in range(2)]
    many = trainer.fit_many(words, jobs, device="cpu")
    assert (
        many[0].metrics["masked_weights"]
        == sum(
            p.numel()
            for n, p in many[0].model.network.named_parameters()
            if ".layer.2." in n and n.endswith("weight") and p.ndim > 1
        )
        + 2 * 8
    )


def test_the_table_in_an_audit_file() -> None:
    trainer = construct(Sgd, {"model": "transformer", "transformer": {"layers": 1}}, where="trainer")
    assert trainer.recipe().model.transformer.layers == 1
    with pytest.raises(Exception, match=r"trainer: unknown key 'transformer.layres'; did you mean 'layers'"):
        construct(Sgd, {"model": "transformer", "transformer": {"layres": 1}}, where="trainer")


def test_data_and_model_of_different_tokenizers(words) -> None:
    big = Rows(words.features + 300, words.labels, words.records, 2, "big")
    with pytest.raises(IncompatibleError, match="knows the token ids 0 to 256"):
        Sgd(model="transformer", transformer=FRESH, epochs=1).fit(big, half(big), seeds=Seeds(1), device="cpu")


def test_the_store_tells_other_weights_of_the_same_name(tmp_path, bert_folder, tokenizer_folder) -> None:
    moving = tmp_path / "bert"
    shutil.copytree(bert_folder, moving)
    trainer = Sgd(model="transformer", transformer={"pretrained": str(moving)})
    before = identity_of(trainer)
    assert identity_of(trainer) == before
    (moving / "README.md").write_text("no part of the model")
    assert identity_of(trainer) == before
    (moving / "config.json").write_text((moving / "config.json").read_text() + " ")
    assert identity_of(trainer) != before
    fresh = identity_of(Sgd(model="transformer", transformer={"tokenizer": str(tokenizer_folder)}))
    assert set(fresh["outside"]) == {"tokenizer"}
    assert "outside" not in identity_of(Sgd(model="transformer")) | identity_of(Sgd())


def test_claims_say_what_they_assume_of_pretrained_files(top) -> None:
    private = {"noise_multiplier": 1.0, "nominal_rows": 20, "batch_size": 5}
    plain, pretrained = (
        DpSgd(model="transformer", transformer=t, **private).planned_claim(20).assumes for t in (None, top)
    )
    assert pretrained[:-1] == plain
    assert top["pretrained"] in pretrained[-1]
    clients = {"clients": 4, "cohort": 2, "rounds": 1, "clip": 1.0, "noise_multiplier": 1.0}
    claim = DpFederated(model="transformer", transformer=top, **clients).recipe().claim("final-model", 1e-5)
    assert top["pretrained"] in claim.assumes[-1]
