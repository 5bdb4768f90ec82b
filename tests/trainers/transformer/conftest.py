from __future__ import annotations

from pathlib import Path

import pytest

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "plot", "a", "the", "fine", "dull", "is", "was"]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory) -> Path:
    """A word tokenizer with BERT's special tokens, as `tokenizer.json`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    inner.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory) -> Path:
    """A small BERT with a pooler and token types, as another program would have stored it."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=12,
        hidden_dropout_prob=0.5,
        attention_probs_dropout_prob=0.5,
    )
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(5)
        model = BertModel(config)
        for parameter in model.parameters():
            parameter.data.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokens_data():
    """40 short texts as bytes in two classes that differ in one letter."""
    import numpy as np

    from leakgauge.audit.seeds import Seeds
    from leakgauge.audit.types import Rows

    generator = Seeds(8).generator()
    labels = np.arange(40) % 2
    tokens = np.full((40, 7), 256, np.int64)
    for row, label in enumerate(labels):
        length = int(generator.integers(2, 7))
        tokens[row, :length] = generator.integers(97, 110, length)
        tokens[row, 0] = 120 + label
    return Rows(tokens, labels.astype(np.int64), tuple(map(str, range(40))), 2, "letters")
