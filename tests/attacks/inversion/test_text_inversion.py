"""Span inversion of text: exact below the width, blind at it, soft under a little noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from leakgauge.attacks.inversion.text.game import SpanInversion
from leakgauge.attacks.inversion.text.metrics import matched, rouge_l, rouge_n
from leakgauge.attacks.inversion.text.models import build_text_model, released_gradients
from leakgauge.attacks.inversion.text.span import span_attack
from leakgauge.attacks.inversion.text.subspace import input_space
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.games import Outcome, Stage
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.sgd import Sgd

SMALL = {"layers": 2, "width": 48, "heads": 2, "vocabulary": 300, "length": 6}


def play(trainer, folder: Path, **settings) -> Outcome:
    game = SpanInversion(**{**SMALL, "victims": 6, **settings})
    stage = Stage(trainer, None, None, None, lambda: None, None, Access.GRADIENTS, "cpu", 0.95, folder)
    return game.play(stage, seeds=Seeds(4))


@pytest.mark.parametrize("architecture", ["gpt2", "bert"])
def test_sequences_are_exact_below_the_width_and_lost_at_it(architecture, tmp_path):
    outcome = play(Sgd(), tmp_path, architecture=architecture, layers=3, batches=(1, 3, 8))
    assert outcome.measures["exact_of_1_sequences"].value == 1.0
    assert outcome.measures["exact_of_3_sequences"].value == 1.0
    # 8 x 6 tokens are as many as the model is wide: every input fits.
    assert outcome.measures["exact_of_8_sequences"].value == 0.0


def test_the_last_layer_of_an_encoder_shows_fewer_directions_than_tokens():
    # One query, and one direction a head for keys and for values: 2 heads + 1 = 5 of 6 tokens.
    settings = {**SMALL, "layers": 3}
    model = build_text_model("bert", **settings, seeds=Seeds(1))
    tokens = torch.randint(300, (1, 6), generator=torch.Generator().manual_seed(0))
    last = model.module.bert.encoder.layer[2].attention.self
    gradients = torch.autograd.grad(model.loss(tokens), [last.query.weight, last.key.weight, last.value.weight])
    assert input_space(model.joined(list(gradients)), tokens=6).rank == 5
    with pytest.raises(ConfigError, match="at least 3 for bert"):
        build_text_model("bert", **SMALL, seeds=Seeds(1))


def test_queries_alone_lose_the_first_token():
    model = build_text_model("gpt2", **SMALL, seeds=Seeds(1))
    tokens = torch.randint(300, (1, 6), generator=torch.Generator().manual_seed(0))
    gradient, _ = released_gradients(model, tokens, clip=None, noise=0.0, seeds=Seeds(0))
    queries, everything = input_space(gradient[:, :48], tokens=6), input_space(gradient, tokens=6)
    first = model.first_inputs(tokens[0, :1], 0).double()
    assert float(everything.distance(first)) < 1e-3
    assert float(queries.distance(first)) > 0.5


def test_the_space_holds_every_input_and_no_other():
    generator = torch.Generator().manual_seed(2)
    inputs, errors = torch.randn((5, 20), generator=generator), torch.randn((5, 30), generator=generator)
    space = input_space(inputs.T @ errors, tokens=5)
    assert space.rank == 5
    assert float(space.distance(inputs.double()).max()) < 1e-5
    assert float(space.distance(torch.randn((50, 20), generator=generator).double()).min()) > 0.3
    with pytest.raises(ConfigError, match="zero"):
        input_space(torch.zeros((4, 6)), tokens=2)
    with pytest.raises(ConfigError, match="finite"):
        input_space(torch.full((4, 6), float("nan")), tokens=2)


def test_noise_of_an_epsilon_of_millions_ends_the_exact_attack_and_not_yet_the_soft_one(tmp_path):
    trainer = DpSgd(noise_multiplier=1e-4, nominal_rows=600)
    exact, soft = (play(trainer, tmp_path, batches=(1,), soft=soft) for soft in (False, True))
    assert exact.measures["exact_of_1_sequences"].value == 0.0
    assert soft.measures["exact_of_1_sequences"].value == 1.0
    assert "epsilon of one release 5e+07" in exact.threat["holds"]


def test_clipping_scales_each_sequence_and_noise_is_that_of_the_sum():
    model = build_text_model("gpt2", **SMALL, seeds=Seeds(1))
    tokens = torch.randint(300, (2, 6), generator=torch.Generator().manual_seed(0))
    loose, _ = released_gradients(model, tokens, clip=1e9, noise=0.0, seeds=Seeds(0))
    plain, _ = released_gradients(model, tokens, clip=None, noise=0.0, seeds=Seeds(0))
    assert torch.allclose(loose, plain, atol=1e-6)
    noisy, _ = released_gradients(model, tokens, clip=1e9, noise=3.0, seeds=Seeds(0))
    # 48 x 144 draws: the standard deviation is within 3 % but once in 10^4 seeds.
    assert float((noisy - plain).std()) * 2 == pytest.approx(3.0, rel=0.03)


def test_found_sequences_are_matched_to_the_true_ones_and_missing_ones_count_as_wrong():
    truth = np.array([[1, 2, 3], [4, 5, 6]])
    assert (matched(truth, np.array([[4, 5, 0]])) == [[-1, -1, -1], [4, 5, 0]]).all()
    assert (matched(truth, np.zeros((0, 3), np.int64)) == -1).all()


def test_rouge_has_hand_computed_values():
    assert rouge_n([1, 2, 3, 4], [1, 2, 9, 4], 1) == pytest.approx(0.75)
    assert rouge_n([1, 2, 3, 4], [1, 2, 9, 4], 2) == pytest.approx(1 / 3)
    assert rouge_l([1, 2, 3, 4], [1, 9, 3, 4]) == pytest.approx(0.75)
    assert rouge_n([1], [1], 2) == 0.0


def test_nothing_is_claimed_of_a_batch_that_fills_the_width():
    model = build_text_model("gpt2", **SMALL, seeds=Seeds(1))
    tokens = torch.randint(300, (8, 6), generator=torch.Generator().manual_seed(0))
    gradients = released_gradients(model, tokens, clip=None, noise=0.0, seeds=Seeds(0))
    result = span_attack(model, gradients, batch=8, length=6, seeds=Seeds(1))
    assert result.blind
    assert not len(result.sequences)
