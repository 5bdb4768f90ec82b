from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.text import TextGenerator, TextModel, byte_rows
from leakgauge.audit.types import Rows
from leakgauge.trainers.language.existing import load_language_target
from leakgauge.trainers.language.model import Size, fresh_model
from leakgauge.trainers.language.tokenizer import SubwordTokenizer
from leakgauge.trainers.targets import load_target

TEXTS = ["the red house", "a blue house and a red one", "b"]
ROWS = Rows(byte_rows(TEXTS, 30), np.zeros(3, np.int64), ("a", "b", "c"), 1)


def saved(folder, architecture: str = "gpt2", vocabulary: int = 257):
    """A fresh model as `save_pretrained` writes it."""
    objective = "masked" if architecture == "bert" else "causal"
    model = fresh_model(Size(1, 16, 2, architecture, objective), vocabulary=vocabulary, length=24, seeds=Seeds(1))  # type: ignore[arg-type]
    model.inner.save_pretrained(folder, safe_serialization=True)
    return model


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_saved_language_model_is_a_target_that_reads_bytes(architecture, tmp_path):
    import torch

    model = saved(tmp_path, architecture)
    target = load_target(data=ROWS, device="cpu", huggingface=str(tmp_path))
    assert isinstance(target, TextModel)
    assert isinstance(target, TextGenerator)
    # Rows are cut at the model's 24 tokens.
    found = target.token_log_probabilities(ROWS.features)
    assert found.shape == (3, 24)
    tokens = torch.tensor([list(TEXTS[0].encode())])
    with torch.no_grad():
        logs = model(tokens).double().log_softmax(-1)[0, :-1].gather(1, tokens[0, 1:, None])[:, 0]
    assert found[0, 1 : len(TEXTS[0])] == pytest.approx(logs.numpy(), abs=1e-5)
    assert np.isnan(found[0, len(TEXTS[0]) :]).all()
    assert load_language_target(str(tmp_path), None, length=10, device="cpu").length == 10


def test_a_tokenizer_beside_it_is_used_and_padding_needs_no_embedding(tmp_path):
    # A tokenizer without a token for padding: one id past its vocabulary fills rows up.
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet))
    saved(tmp_path, vocabulary=inner.get_vocab_size())
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = SubwordTokenizer(inner)
    assert tokenizer.padding == inner.get_vocab_size()
    target = load_language_target(str(tmp_path), None, length=30, device="cpu")
    assert np.isfinite(target.token_log_probabilities(ROWS.features)).sum(axis=1).tolist() == [
        len(tokenizer.encode(text.encode())) - 1 for text in TEXTS
    ]


def test_mistakes_are_refused(tmp_path):
    saved(tmp_path / "small", vocabulary=100)
    with pytest.raises(ConfigError, match="knows 100 tokens, its tokenizer makes 257"):
        load_language_target(str(tmp_path / "small"), None, length=None, device="cpu")
    with pytest.raises(ConfigError, match="needs revision"):
        load_language_target("org/name", None, length=None, device="cpu")
    saved(tmp_path / "bert", "bert")
    with pytest.raises(IncompatibleError, match="no sequence or image classifier and no causal"):
        load_target(data=ROWS, device="cpu", huggingface=str(tmp_path / "bert"))
