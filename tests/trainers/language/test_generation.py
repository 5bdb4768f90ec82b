from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.text import NO_TOKEN, Sampling, TextGenerator, byte_rows
from leakgauge.trainers.language import generation
from leakgauge.trainers.language.generation import (
    likeliest_tokens,
    restricted,
    rows_at_once,
    suffix_log_probabilities,
    write_by_beams,
    write_greedily,
    write_randomly,
)
from leakgauge.trainers.language.model import Size, fresh_model
from leakgauge.trainers.language.target import LanguageTarget
from leakgauge.trainers.language.tokenizer import ByteTokenizer

CONTEXT = 24


def sharp(architecture: str, vocabulary: int) -> torch.nn.Module:
    """A small model with large weights, so that its answers differ from place to place."""
    size = Size(2, 16, 2, architecture)  # type: ignore[arg-type]
    model = fresh_model(size, vocabulary=vocabulary, length=CONTEXT, seeds=Seeds(3))
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.mul_(6)
    return model.eval()


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request) -> torch.nn.Module:
    return sharp(request.param, 50)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def tiny(request) -> torch.nn.Module:
    return sharp(request.param, 5)


def prefixes(vocabulary: int = 50) -> list[np.ndarray]:
    generator = Seeds(5).generator()
    return [generator.integers(vocabulary, size=n) for n in (3, 1, 9, 3, 12)]


def plain_law(model: torch.nn.Module, tokens: list[int]) -> np.ndarray:
    """ln P of the next token by one plain pass over everything so far: no cache, no padding."""
    with torch.no_grad():
        return model.inner(input_ids=torch.tensor([tokens])).logits[0, -1].double().log_softmax(-1).numpy()


def restricted_by_hand(logs: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Probabilities of tokens under the scheme, one token after another."""
    weights = np.exp(logs / sampling.temperature)
    order = sorted(range(len(weights)), key=lambda t: -weights[t])
    kept = order[: sampling.top_k] if sampling.top_k else order
    total = sum(weights[t] for t in kept)
    out, mass = np.zeros(len(weights)), 0.0
    for token in kept:
        if mass >= sampling.top_p:
            break
        out[token] = weights[token]
        mass += weights[token] / total
    return out / out.sum()


SCHEMES = [Sampling(), Sampling(0.7), Sampling(top_k=7), Sampling(top_p=0.8), Sampling(1.3, 9, 0.7)]


def test_greedy_writes_what_a_loop_without_cache_writes(model):
    written = write_greedily(model, prefixes(), 7, device="cpu")
    for prefix, row in zip(prefixes(), written, strict=True):
        tokens = prefix.tolist()
        for _ in range(7):
            tokens.append(int(plain_law(model, tokens).argmax()))
        assert tokens[len(prefix) :] == row.tolist()


@pytest.mark.parametrize("sampling", SCHEMES, ids=str)
def test_random_tokens_are_those_of_a_loop_without_cache(model, sampling):
    written = write_randomly(model, prefixes(), 5, sampling, seeds=Seeds(8), device="cpu")
    uniform = Seeds(8).generator().random((5, 5))
    for prefix, row, numbers in zip(prefixes(), written, uniform, strict=True):
        tokens = prefix.tolist()
        for number in numbers:
            law = restricted_by_hand(plain_law(model, tokens), sampling)
            tokens.append(int(np.searchsorted(law.cumsum(), number * law.sum(), side="right")))
        assert tokens[len(prefix) :] == row.tolist()


def test_restricted_laws_against_a_loop_over_tokens():
    logits = torch.from_numpy(Seeds(2).generator().normal(size=(40, 30)) * 3)
    for sampling in SCHEMES:
        found = restricted(logits, sampling).exp().numpy()
        for row, law in zip(logits.log_softmax(-1).numpy(), found, strict=True):
            assert law == pytest.approx(restricted_by_hand(row, sampling), abs=1e-12)


def test_a_row_is_the_same_whatever_it_is_computed_with(model, monkeypatch):
    whole = write_randomly(model, prefixes(), 6, Sampling(), seeds=Seeds(1), device="cpu")
    beams = write_by_beams(model, prefixes(), 4, 3, device="cpu")
    monkeypatch.setattr(generation, "BATCH", 2)
    assert np.array_equal(whole, write_randomly(model, prefixes(), 6, Sampling(), seeds=Seeds(1), device="cpu"))
    again = write_by_beams(model, prefixes(), 4, 3, device="cpu")
    assert np.array_equal(beams.tokens, again.tokens)
    assert not np.array_equal(whole, write_randomly(model, prefixes(), 6, Sampling(), seeds=Seeds(2), device="cpu"))


def all_continuations(model: torch.nn.Module, prefix: np.ndarray, count: int) -> dict[tuple[int, ...], float]:
    """ln P of every continuation of `count` tokens."""
    found = {(): 0.0}
    for _ in range(count):
        found = {
            (*done, token): total + float(log)
            for done, total in found.items()
            for token, log in enumerate(plain_law(model, [*prefix.tolist(), *done]))
        }
    return found


def test_wide_beams_find_the_best_of_all_continuations(tiny):
    # 25 beams keep every start of two tokens, so that the search over three is exhaustive.
    found = write_by_beams(tiny, prefixes(5), 3, 25, device="cpu")
    for k, prefix in enumerate(prefixes(5)):
        wanted = sorted(all_continuations(tiny, prefix, 3).items(), key=lambda pair: -pair[1])[:25]
        assert [tuple(t) for t in found.tokens[k].tolist()] == [tokens for tokens, _ in wanted]
        assert found.log_probabilities[k] == pytest.approx([log for _, log in wanted], abs=1e-5)


def test_narrow_beams_against_the_search_written_out(tiny):
    found = write_by_beams(tiny, prefixes(5), 4, 3, device="cpu")
    for k, prefix in enumerate(prefixes(5)):
        kept: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        for _ in range(4):
            grown = [
                ((*done, token), total + float(log))
                for done, total in kept
                for token, log in enumerate(plain_law(tiny, [*prefix.tolist(), *done]))
            ]
            kept = sorted(grown, key=lambda pair: -pair[1])[:3]
        assert [tuple(t) for t in found.tokens[k].tolist()] == [tokens for tokens, _ in kept]
        assert found.log_probabilities[k] == pytest.approx([log for _, log in kept], abs=1e-5)


def test_more_beams_than_continuations_are_marked_as_none(tiny):
    found = write_by_beams(tiny, prefixes(5)[:1], 1, 8, device="cpu")
    assert np.isfinite(found.log_probabilities[0]).tolist() == [True] * 5 + [False] * 3
    assert np.exp(found.log_probabilities[0]).sum() == pytest.approx(1)


@pytest.mark.parametrize("sampling", SCHEMES, ids=str)
def test_suffix_probabilities_are_products_of_the_scheme(model, sampling):
    suffixes = [np.array(s) for s in ([4, 7], [1], [30, 2, 9], [], [0, 0, 0, 0])]
    found = suffix_log_probabilities(model, prefixes(), suffixes, sampling, device="cpu")
    for prefix, suffix, log in zip(prefixes(), suffixes, found, strict=True):
        wanted, tokens = 1.0, prefix.tolist()
        for token in suffix.tolist():
            wanted *= restricted_by_hand(plain_law(model, tokens), sampling)[token]
            tokens.append(token)
        assert math.exp(log) == pytest.approx(wanted, rel=1e-4, abs=1e-300)


def test_suffix_probabilities_add_up_to_one_and_are_the_frequencies_of_samples(tiny):
    prefix, sampling = prefixes(5)[0], Sampling(1.2, 4, 0.9)
    every = [np.array(s) for s in itertools.product(range(5), repeat=2)]
    law = np.exp(suffix_log_probabilities(tiny, [prefix] * 25, every, sampling, device="cpu"))
    assert law.sum() == pytest.approx(1)
    drawn = write_randomly(tiny, [prefix] * 4000, 2, sampling, seeds=Seeds(4), device="cpu")
    seen = np.bincount(drawn[:, 0] * 5 + drawn[:, 1], minlength=25) / 4000
    # 25 frequencies of 4000 draws, five deviations each: false once in 70 000 runs.
    assert (np.abs(seen - law) <= 5 * np.sqrt(law * (1 - law) / 4000)).all()
    assert (seen[law == 0] == 0).all()


def test_likeliest_tokens_at_every_place(model):
    found = likeliest_tokens(model, prefixes(), 4, device="cpu")
    for k, text in enumerate(prefixes()):
        assert (found.tokens[k, 0] == NO_TOKEN).all()
        assert (found.tokens[k, len(text) :] == NO_TOKEN).all()
        for place in range(1, len(text)):
            law = plain_law(model, text[:place].tolist())
            best = np.argsort(-law)[:4]
            assert found.tokens[k, place].tolist() == best.tolist()
            assert found.log_probabilities[k, place] == pytest.approx(law[best], abs=1e-5)


def test_the_text_interface_speaks_bytes():
    target = LanguageTarget(sharp("gpt2", 257), ByteTokenizer(), 12, "cpu")  # type: ignore[arg-type]
    assert isinstance(target, TextGenerator)
    assert target.context == CONTEXT
    rows = target.encode_rows(byte_rows(["ab", "a long enough row"], 17))
    assert rows.shape == (2, 12)
    assert rows[0].tolist() == [97, 98] + [NO_TOKEN] * 10
    assert target.decode(rows[1]) == "a long enoug"
    assert target.encode("ab").tolist() == [97, 98]
    written = target.continue_greedily([target.encode("ab")], 3)
    assert target.decode(written[0])[:3] == target.greedy("ab", 3)
    logs = target.suffix_log_probabilities([target.encode("ab")], [target.encode("cd")], Sampling())
    assert logs == pytest.approx(target.continuation_log_probabilities("ab", ["cd"]), abs=1e-5)


def test_statistics_in_small_parts_are_those_of_the_whole(monkeypatch):
    target = LanguageTarget(sharp("gpt2", 257), ByteTokenizer(), 12, "cpu")  # type: ignore[arg-type]
    rows = byte_rows([f"text {n}" for n in range(7)], 12)
    whole = target.token_statistics(rows)
    monkeypatch.setattr(generation, "CELLS", 2 * 12 * 257)
    assert rows_at_once(12, 257) == 2
    assert target.token_statistics(rows) == pytest.approx(whole, abs=1e-5, nan_ok=True)


def test_what_cannot_be_continued_is_refused(model):
    bert = fresh_model(
        Size(1, 16, 2, "bert", "masked"), vocabulary=50, length=CONTEXT, seeds=Seeds(1), padding=0, mask=1
    )
    with pytest.raises(IncompatibleError, match="hidden tokens and cannot continue"):
        write_greedily(bert, prefixes(), 2, device="cpu")
    with pytest.raises(IncompatibleError, match=f"have 26 tokens, and the model reads {CONTEXT}"):
        write_greedily(model, prefixes(), 14, device="cpu")
    assert write_greedily(model, prefixes(), 13, device="cpu").shape == (5, 13)
    with pytest.raises(ConfigError, match="empty prefix"):
        write_greedily(model, [np.zeros(0, np.int64)], 2, device="cpu")
    with pytest.raises(ConfigError, match="at least one token"):
        write_greedily(model, prefixes(), 0, device="cpu")
    with pytest.raises(ConfigError, match="beams must be >= 1"):
        write_by_beams(model, prefixes(), 2, 0, device="cpu")
    for options in ({"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Sampling(**options)


def test_a_model_of_another_kind_is_no_generator():
    assert not isinstance(SimpleNamespace(greedy=len), TextGenerator)
