from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from leakgauge.audit.contracts.trainer import check_trainer
from leakgauge.audit.errors import ConfigError, IncompatibleError, PrerequisiteError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.text import TextModel, TextTrainer, byte_rows
from leakgauge.audit.types import Rows
from leakgauge.trainers.data.text import byte_tokens
from leakgauge.trainers.language import DpLanguage, Language
from leakgauge.trainers.language.fitting import public_rows, starting_model, unigram_perplexity
from leakgauge.trainers.language.model import Size, fresh_model
from leakgauge.trainers.language.objectives import Examples, next_tokens
from leakgauge.trainers.language.target import LanguageTarget
from leakgauge.trainers.language.tokenizer import ByteTokenizer, fit_bpe, token_rows
from leakgauge.trainers.language.training import PrivateStep, per_sample, record_losses
from leakgauge.trainers.recipe import Protection

SMALL = {"layers": 1, "width": 16, "heads": 2, "length": 24}
TEXTS = [f"The colour of house {n} is {'red' if n % 2 else 'blue'}." for n in range(40)]


@pytest.fixture(scope="module")
def rows() -> Rows:
    features = byte_tokens(TEXTS, 24)
    return Rows(features, np.zeros(40, np.int64), tuple(map(str, range(40))), 1, "houses")


@pytest.fixture
def public(tmp_path) -> Path:
    path = tmp_path / "public.txt"
    path.write_text("The colour of a garden is green. The number of a house is 12. " * 20, encoding="utf-8")
    return path


PRIVATE = DpLanguage(**SMALL, epochs=1, batch_size=8, nominal_rows=20, noise_multiplier=1.0)


@pytest.mark.parametrize("trainer", [Language(**SMALL, epochs=1, batch_size=8), PRIVATE], ids=["plain", "private"])
def test_a_model_follows_from_its_rows_and_seeds_and_is_saved_as_it_is(trainer, rows, tmp_path):
    # The contract kit sees class probabilities, which say nothing of text without labels; here tokens are compared.
    inside = np.arange(40) % 2 == 0
    wiped = replace(rows, features=np.where(inside[:, None], rows.features, 65))

    def answers(data: Rows, seed: int) -> np.ndarray:
        trained = trainer.fit(data, inside, seeds=Seeds(seed), device="cpu")
        return trained.target.token_log_probabilities(rows.features)

    first = answers(rows, 1)
    assert np.array_equal(first, answers(rows, 1), equal_nan=True)
    assert np.array_equal(first, answers(wiped, 1), equal_nan=True)
    assert not np.array_equal(first, answers(rows, 2), equal_nan=True)
    check_trainer(trainer.unprotected() if trainer is PRIVATE else trainer, rows, tmp_path / "kit", seeds=Seeds(1))
    (tmp_path / "saved").mkdir()
    trained = trainer.fit(rows, inside, seeds=Seeds(1), device="cpu")
    trainer.save(trained, tmp_path / "saved")
    loaded = trainer.load(tmp_path / "saved", rows, device="cpu")
    assert np.array_equal(first, loaded.target.token_log_probabilities(rows.features), equal_nan=True)
    assert (loaded.claim, loaded.steps) == (trained.claim, trained.steps)


def test_the_claim_is_known_beforehand_and_the_twin_claims_nothing(rows):
    inside = np.ones(40, bool)
    trained = PRIVATE.fit(rows, inside, seeds=Seeds(1), device="cpu")
    assert trained.claim == PRIVATE.planned_claim(20)
    assert trained.steps == PRIVATE.planned_steps(20) == 2
    assert PRIVATE.unprotected().fit(rows, inside, seeds=Seeds(1), device="cpu").claim is None
    assert any("public" in line for line in trained.claim.assumes)
    # Calibration: the claim at delta is the epsilon asked for, to the accuracy of the search.
    asked = DpLanguage(**SMALL, epochs=1, batch_size=8, nominal_rows=20, epsilon=8.0).planned_claim(20)
    assert asked.epsilon == pytest.approx(8.0, rel=0.01)


def test_both_are_text_trainers_and_their_models_text_models(rows):
    trainer = Language(**SMALL, epochs=1)
    trained = trainer.fit(rows, np.ones(40, bool), seeds=Seeds(1), device="cpu")
    assert isinstance(trainer, TextTrainer)
    assert isinstance(trained.target, TextModel)
    assert np.array_equal(byte_rows(TEXTS, 24), byte_tokens(TEXTS, 24))


def tiny(length: int = 24, vocabulary: int = 257) -> torch.nn.Module:
    return fresh_model(Size(2, 16, 2), vocabulary=vocabulary, length=length, seeds=Seeds(3))


def oracle_gradients(module: torch.nn.Module, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """One record at a time by plain autograd."""
    out: dict[str, list[torch.Tensor]] = {}
    for row in tokens:
        module.zero_grad()
        record_losses(module(row[None]), row[None], 256).sum().backward()
        for name, p in module.named_parameters():
            out.setdefault(name, []).append(p.grad.clone())
    return {name: torch.stack(parts) for name, parts in out.items()}


@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_per_sample_gradients_are_those_of_single_records_tied_embeddings_included(rows):
    module, tokens = tiny(), torch.from_numpy(rows.features[:5])
    assert module.inner.lm_head.weight is module.inner.transformer.wte.weight
    wanted = oracle_gradients(module, tokens)
    hooked = per_sample(module)
    record_losses(hooked(tokens), tokens, 256).sum().backward()
    for name, p in module.named_parameters():
        assert torch.allclose(p.grad_sample, wanted[name], atol=1e-6), name


@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_a_private_step_adds_clipped_records_and_divides_by_the_public_batch_size(rows):
    # 100 records take two chunks; without noise the result is the mean of clipped gradients by definition.
    tokens = torch.from_numpy(np.concatenate([rows.features] * 3)[:100])
    module = tiny()
    wanted = oracle_gradients(module, tokens)
    norms = torch.sqrt(sum(g.flatten(1).square().sum(1) for g in wanted.values()))
    limit = float(norms.median())
    factors = torch.clamp(limit / (norms + 1e-6), max=1.0)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    recipe = replace(
        Language(**SMALL, optimizer="sgd", learning_rate=1.0, batch_size=50).recipe(),
        protection=Protection(1e-9, limit),
    )
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    PrivateStep(module, optimizer, recipe, 23, torch.Generator().manual_seed(0))(
        Examples(tokens, next_tokens(tokens, 256))
    )
    for name, p in module.named_parameters():
        update = torch.einsum("n,n...->...", factors, wanted[name]) / 50
        assert torch.allclose(before[name] - p, update, atol=1e-5), name
    assert float((norms * factors).max()) <= limit + 1e-4


def test_an_empty_private_batch_is_noise_of_the_stated_size():
    module = tiny()
    before = torch.cat([p.detach().flatten().clone() for p in module.parameters()])
    recipe = replace(Language(**SMALL, batch_size=4).recipe(), protection=Protection(2.0, 0.5))
    step = PrivateStep(
        module, torch.optim.SGD(module.parameters(), lr=1.0), recipe, 23, torch.Generator().manual_seed(0)
    )
    nothing = torch.zeros((0, 24), dtype=torch.long)
    step(Examples(nothing, nothing))
    moved = torch.cat([p.detach().flatten() for p in module.parameters()]) - before
    # About 11 000 coordinates: the sample deviation is within 5 % of 2 * 0.5 / 4 but for one run in 10^12.
    assert float(moved.std()) == pytest.approx(0.25, rel=0.05)


def test_padding_weighs_nothing():
    logits, tokens = torch.randn(1, 4, 257), torch.tensor([[5, 6, 256, 256]])
    wanted = -logits.log_softmax(-1)[0, 0, 6] / 3
    assert torch.allclose(record_losses(logits, tokens, 256)[0], wanted)


def target(vocabulary: int = 257) -> LanguageTarget:
    return LanguageTarget(tiny(vocabulary=vocabulary), ByteTokenizer(), 24, "cpu")


def by_hand(model: LanguageTarget, text: str, start: int) -> float:
    """ln P of the bytes of `text` from `start` on, from one plain forward pass."""
    tokens = torch.tensor([list(text.encode())])
    with torch.no_grad():
        logs = model.model(tokens).double().log_softmax(-1)[0]
    return sum(float(logs[i - 1, tokens[0, i]]) for i in range(start, tokens.shape[1]))


def test_scores_through_the_cache_are_those_of_plain_forward_passes():
    model, prefix = target(), "The code is "
    numbers = model.number_log_probabilities(prefix, 3)
    assert numbers.shape == (1000,)
    for number in (0, 7, 123, 999):
        assert numbers[number] == pytest.approx(by_hand(model, f"{prefix}{number:03d}", len(prefix)), abs=1e-5)
    texts = ["007", "123"]
    assert model.continuation_log_probabilities(prefix, texts) == pytest.approx(numbers[[7, 123]], abs=1e-5)


def test_all_numbers_are_scored_when_their_branches_do_not_fit_at_once():
    model = target()
    numbers = model.number_log_probabilities("Code ", 4)
    assert numbers.shape == (10_000,)
    assert numbers[4831] == pytest.approx(by_hand(model, "Code 4831", 5), abs=1e-5)
    assert numbers[9999] == pytest.approx(by_hand(model, "Code 9999", 5), abs=1e-5)


def test_greedy_takes_the_likeliest_byte_each_time():
    model, text = target(), "The code is "
    tokens = list(text.encode())
    for _ in range(4):
        with torch.no_grad():
            tokens.append(int(model.model(torch.tensor([tokens]))[0, -1].argmax()))
    found = model.greedy(text, 4)
    assert found == ByteTokenizer().decode(tokens)[len(text) :][: len(found)]


def test_token_log_probabilities_leave_out_padding_and_first_tokens():
    model = target()
    logs = model.token_log_probabilities(byte_rows(["abc", "a longer text"], 20))
    assert np.isnan(logs[:, 0]).all()
    assert (~np.isnan(logs)).sum(axis=1).tolist() == [2, 12]
    assert np.nansum(logs[0]) == pytest.approx(by_hand(model, "abc", 1), abs=1e-5)


def test_continuations_of_unequal_length_are_refused():
    with pytest.raises(IncompatibleError, match="one number of tokens"):
        target().continuation_log_probabilities("a", ["1", "22"])


def test_unigram_perplexity_by_hand():
    training, fresh = np.array([[0, 0, 1]]), np.array([0, 1])
    # Counts plus one: 3, 2 and nothing for padding.
    wanted = np.exp(-(np.log(3 / 5) + np.log(2 / 5)) / 2)
    assert unigram_perplexity(training, fresh, 3, 2) == pytest.approx(wanted)


def test_a_bpe_keeps_digits_apart_and_turns_back_into_text():
    tokenizer = fit_bpe(TEXTS, 300)
    whole, start = tokenizer.encode(b"The house is 4831"), tokenizer.encode(b"The house is ")
    assert whole[: len(start)] == start
    assert len(whole) == len(start) + 4
    assert tokenizer.decode(whole) == "The house is 4831"
    cut = token_rows(byte_tokens(["The house is 4831", "a"], 24), tokenizer, 6)
    assert cut.shape == (2, 6)
    assert (cut[1, 1:] == tokenizer.padding).all()


def test_a_public_model_comes_first_and_depends_on_public_text_alone(rows, public, tmp_path):
    trainer = Language(**SMALL, epochs=1, public=str(public), public_epochs=2, vocabulary=300)
    one, other = (starting_model(trainer.beginning(), seeds=Seeds(s), device="cpu").state_dict() for s in (1, 2))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert public_rows(trainer.beginning()).shape[1] == 24
    trained = trainer.fit(rows, np.ones(40, bool), seeds=Seeds(1), device="cpu")
    quality = trainer.perplexities(trained, rows, np.ones(40, bool), rows, device="cpu")
    assert set(quality) == {"model", "unigram", "public"}
    assert quality["model"] < quality["public"]
    (tmp_path / "saved").mkdir()
    trainer.save(trained, tmp_path / "saved")
    loaded = trainer.load(tmp_path / "saved", rows, device="cpu")
    for name in ("token_log_probabilities",):
        a, b = (getattr(t.target, name)(rows.features) for t in (trained, loaded))
        assert np.array_equal(a, b, equal_nan=True)


def test_a_saved_model_is_where_another_training_starts_from(rows, tmp_path):
    first = Language(**SMALL, epochs=1)
    trained = first.fit(rows, np.ones(40, bool), seeds=Seeds(1), device="cpu")
    folder = tmp_path / "model"
    trained.model.inner.save_pretrained(folder, safe_serialization=True)
    assert {p.suffix for p in folder.iterdir()} == {".safetensors", ".json"}
    after = replace(first, pretrained=str(folder))
    start = starting_model(after.beginning(), seeds=Seeds(9), device="cpu").state_dict()
    assert all(torch.equal(start[key], value) for key, value in trained.model.state_dict().items())


def test_weights_that_are_no_safetensors_are_refused(rows, tmp_path):
    folder = tmp_path / "pickled"
    model = tiny()
    model.inner.config.save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(PrerequisiteError, match="cannot be loaded"):
        starting_model(Language(**SMALL, pretrained=str(folder)).beginning(), seeds=Seeds(1), device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": 300}, "vocabulary needs public"),
        ({"public_epochs": 1}, "public_epochs needs public"),
        ({"width": 15}, "multiple of heads"),
        ({"length": 1}, "length must be >= 2"),
        ({"pretrained": "x", "vocabulary": 300, "public": "y"}, "brings its own tokenizer"),
    ],
)
def test_mistakes_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Language(**{**SMALL, **options})


def test_a_hub_name_needs_a_revision(rows):
    trainer = Language(**SMALL, pretrained="some/model")
    with pytest.raises(ConfigError, match="needs revision"):
        trainer.fit(rows, np.ones(40, bool), seeds=Seeds(1), device="cpu")


def test_a_private_training_needs_a_public_size(rows):
    with pytest.raises(ConfigError, match="nominal_rows"):
        DpLanguage(**SMALL, epsilon=8).fit(rows, np.ones(40, bool), seeds=Seeds(1), device="cpu")
    with pytest.raises(ConfigError, match="either epsilon or noise"):
        DpLanguage(**SMALL)


def test_other_features_are_refused(images):
    with pytest.raises(IncompatibleError, match="rows of bytes"):
        Language(**SMALL).fit(images, np.ones(60, bool), seeds=Seeds(1), device="cpu")


def test_token_statistics_are_moments_of_the_models_own_law():
    model = target()
    found = model.token_statistics(byte_rows(["abc"], 8))[0]
    with torch.no_grad():
        logs = model.model(torch.tensor([list(b"abc")])).double().log_softmax(-1)[0, 1].numpy()
    mean = float(np.sum(np.exp(logs) * logs))
    spread = math.sqrt(float(np.sum(np.exp(logs) * (logs - mean) ** 2)))
    assert found[2] == pytest.approx([logs[ord("c")], mean, spread], abs=1e-5)
    assert np.isnan(found[[0, 3]]).all()
