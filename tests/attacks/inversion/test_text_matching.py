"""Text by gradient matching: near the truth on tiny models, its prior on language, and clear errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from leakgauge.attacks.inversion.text.embedding_search import EmbeddingSearch, search_tokens, watched_parameters
from leakgauge.attacks.inversion.text.game import SpanInversion
from leakgauge.attacks.inversion.text.matching_game import TextMatching
from leakgauge.attacks.inversion.text.models import build_text_model, released_of
from leakgauge.attacks.inversion.text.prose import learn_bigrams, load_prose
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.games import Game, Outcome, Stage
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.sgd import Sgd

TINY = {"layers": 3, "width": 24, "heads": 2, "vocabulary": 100, "length": 4}


def play(trainer, folder: Path, **settings) -> Outcome:
    game = TextMatching(**{**TINY, "victims": 2, "iterations": 120, **settings})
    stage = Stage(trainer, None, None, None, lambda: None, None, Access.GRADIENTS, "cpu", 0.95, folder)
    return game.play(stage, seeds=Seeds(4))


def test_words_come_back_better_than_a_guess_and_the_span_test_stands_beside(tmp_path):
    outcome = play(Sgd(), tmp_path)
    assert outcome.measures["tokens_in_place"].value >= 0.5
    assert outcome.measures["tokens_in_place"].value > outcome.measures["tokens_in_place"].baseline.value
    assert outcome.measures["exact_sequences"].baseline.value == 1.0
    assert "embeddings left out" in outcome.threat["holds"]
    assert len(outcome.examples[0].original.split()) == 4


def test_noise_of_a_realistic_epsilon_ends_it(tmp_path):
    outcome = play(DpSgd(noise_multiplier=1.0, nominal_rows=600), tmp_path, iterations=20, method="tag")
    assert outcome.measures["exact_sequences"].value == 0.0
    assert "epsilon of one release 4.38" in outcome.threat["holds"]


def test_private_and_public_prose_are_other_topics():
    prose = load_prose(100, 4, seeds=Seeds(1))
    assert prose.private.shape[1] == prose.public.shape[1] == 4
    assert int(prose.private.max()) < 100
    assert prose.text(np.array([0, -1])) == f"{prose.words[0]} ?"
    with pytest.raises(ConfigError, match="take shorter ones"):
        load_prose(3, 30, seeds=Seeds(1))


def test_bigrams_are_counted_shares():
    sequences = np.array([[0, 1, 0], [0, 1, 2]])
    learned = learn_bigrams(sequences, 3)
    # From 0: twice to 1, of 2 + 3 x 0.1; from 1: once to 0, once to 2.
    expected = -(np.log(2.1 / 2.3) + np.log(1.1 / 2.3)) / 2
    assert learned.surprise(np.array([[0, 1, 0]]))[0] == pytest.approx(expected)
    assert learned.surprise(np.array([[0, 2, 2]]))[0] > expected


def test_bad_input_is_named(tmp_path):
    model = build_text_model("bert", **TINY, seeds=Seeds(1))
    tokens = torch.zeros((1, 4), dtype=torch.int64)
    watched = watched_parameters(model)
    good = released_of(model, tokens, watched, clip=None, noise=0.0, seeds=Seeds(0))
    bigrams = learn_bigrams(np.zeros((1, 2), np.int64), 100)

    def search(gradients):
        return search_tokens(
            model, gradients, torch.tensor([0]), 4, EmbeddingSearch(iterations=1), bigrams, seeds=Seeds(0)
        )

    with pytest.raises(IncompatibleError, match="a layer is missing"):
        search(good[:-1])
    with pytest.raises(IncompatibleError, match="a layer is missing"):
        search([good[0].T[:1], *good[1:]])
    with pytest.raises(ConfigError, match="NaN"):
        search([good[0] * float("nan"), *good[1:]])
    with pytest.raises(ConfigError, match="zero everywhere"):
        search([g * 0 for g in good])
    with pytest.raises(ConfigError, match="method"):
        TextMatching(method="guess")
    with pytest.raises(ConfigError, match="length"):
        TextMatching(length=1)
    with pytest.raises(ConfigError, match="batches"):
        SpanInversion(batches=(0,))
    with pytest.raises(ConfigError, match="multiple of"):
        build_text_model("gpt2", **{**TINY, "heads": 5}, seeds=Seeds(1))
    with pytest.raises(IncompatibleError, match="no single step"):
        play(object(), tmp_path)
    assert isinstance(TextMatching(), Game)
