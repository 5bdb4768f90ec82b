"""Real text: masked and causal models from scratch on WikiText-2 (skipped where `LEAKGAUGE_DATA` lacks it)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows
from leakgauge.trainers.data import DataSpec, encode, load_table
from leakgauge.trainers.language import Language

ROOT = Path(os.environ.get("LEAKGAUGE_DATA", Path(__file__).parents[3].parent / "shared" / "data")) / "wikitext2"
TRAINING = 1800
SETTINGS = {
    "bert": {"architecture": "bert", "objective": "masked", "epochs": 24.0},
    "llama": {"architecture": "llama", "epochs": 4.0},
    "gpt2": {"epochs": 4.0},
}


def paragraphs() -> Rows:
    if not (ROOT / "valid.txt").is_file():
        pytest.skip(f"real data absent: {ROOT} (set LEAKGAUGE_DATA to the folder that holds wikitext2/)")
    spec = DataSpec(seed=0, path=str(ROOT / "valid.txt"), text_encoding="bytes", text_length=96)
    table = load_table(spec)
    rows = encode(table, np.ones(len(table.records), bool), spec).rows
    order = Seeds(1).at("order").generator().permutation(len(rows))
    return rows.take(order[: TRAINING + 400])


def perplexities(name: str) -> dict[str, float]:
    """Held-out perplexities of a model of width 64 trained on 1800 paragraphs, with a BPE of 500 tokens fitted on the
    other file."""
    rows = paragraphs()
    inside = np.arange(len(rows)) < TRAINING
    trainer = Language(
        **{"width": 64, "length": 32, "learning_rate": 3e-3, **SETTINGS[name]},
        vocabulary=500,
        public=str(ROOT / "test.txt"),
    )
    trained = trainer.fit(rows, inside, seeds=Seeds(2), device="cpu")
    return dict(trainer.perplexities(trained, rows, inside, rows.take(~inside), device="cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_models_from_scratch_beat_token_frequencies_on_wikitext(name):
    found = perplexities(name)
    assert found["model"] < 0.8 * found["unigram"]
