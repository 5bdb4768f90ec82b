from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from leakgauge.attacks.language.ranking import expose, searched_rank
from leakgauge.attacks.language.secrets import Slot
from leakgauge.audit.metrics.exposure import exact_exposure, pessimistic_rank
from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.language.model import Size, fresh_model
from leakgauge.trainers.language.target import LanguageTarget
from leakgauge.trainers.language.tokenizer import ByteTokenizer


@dataclass
class Tables:
    """Every digit by a law of its own after every beginning; the digits of `known` are likely with probability about
    `sharpness`. Digits only."""

    sharpness: float
    known: str = "12345"
    contexts: dict[str, np.ndarray] = field(default_factory=dict)

    def law(self, before: str) -> np.ndarray:
        """ln P of the ten next digits."""
        if before not in self.contexts:
            scores = Seeds(3).at(before).generator().normal(0, 0.5, 10)
            if self.known.startswith(before) and len(before) < len(self.known):
                scores[int(self.known[len(before)])] += self.sharpness
            self.contexts[before] = scores - np.log(np.exp(scores).sum())
        return self.contexts[before]

    def number_log_probabilities(self, prefix: str, digits: int) -> np.ndarray:
        """As in `TextModel`."""
        first = self.law(prefix)
        if digits == 1:
            return first
        return np.concatenate([first[d] + self.number_log_probabilities(f"{prefix}{d}", digits - 1) for d in range(10)])

    def continuation_log_probabilities(self, prefix: str, continuations: list[str]) -> np.ndarray:
        """As in `TextModel`."""
        places = [[self.law(prefix + c[:k])[int(c[k])] for k in range(len(c))] for c in continuations]
        return np.array([sum(terms) for terms in places])

    def greedy(self, prefix: str, characters: int) -> str:
        """As in `TextModel`."""
        text = ""
        while len(text) < characters:
            text += str(int(self.law(prefix + text).argmax()))
        return text


MODEL = Tables(sharpness=4.0)
WHOLE = MODEL.number_log_probabilities("", 5)


def test_the_search_finds_the_rank_of_ranking_every_number():
    # From the likeliest to the middle of a space of 10^5.
    order = np.argsort(-WHOLE)
    for place in (0, 1, 5, 40, 200):
        secret = int(order[place])
        assert (
            searched_rank(MODEL, "", f"{secret:05d}", beginnings=1000) == pessimistic_rank(WHOLE, secret) == place + 1
        )


def test_the_search_gives_up_where_too_many_beginnings_matter():
    order = np.argsort(-WHOLE)
    assert searched_rank(MODEL, "", f"{order[0]:05d}", beginnings=1) == 1
    assert searched_rank(MODEL, "", f"{order[50_000]:05d}") is None


def test_equals_count_against_the_secret_in_the_search_too():
    class Flat(Tables):
        """All numbers are alike."""

        def law(self, before: str) -> np.ndarray:
            """As above."""
            return np.full(10, -1.0)

    assert searched_rank(Flat(0.0), "", "0000", beginnings=1000) == 10_000


def test_the_search_of_a_real_model_agrees_with_ranking_all():
    model = fresh_model(Size(1, 16, 2), vocabulary=257, length=24, seeds=Seeds(3))
    for parameter in model.parameters():
        parameter.data *= 12
    target = LanguageTarget(model, ByteTokenizer(), 24, "cpu")
    scores = target.number_log_probabilities("Code ", 4)
    order = np.argsort(-scores)
    for place in (0, 3, 30):
        secret = int(order[place])
        # One batch or another rounds the last bits differently, which exchanges near equals.
        near = int(np.sum(np.abs(scores - scores[secret]) < 1e-4))
        assert searched_rank(target, "Code ", f"{secret:04d}", beginnings=1000) == pytest.approx(place + 1, abs=near)


def exposed(secret: str, *, top: int = 1, fill: float = 0.5, seed: int = 1, samples: int = 100):
    return expose(MODEL, Slot("", secret, ".", 1, True), fill, samples=samples, top=top, seeds=Seeds(seed))


def test_a_known_secret_of_five_digits_has_its_exact_exposure():
    found = exposed("12345")
    assert (found.rank, found.greedy, found.hit, found.extracted) == (1, "12345", True, True)
    assert found.bits == math.log2(10**5)


def test_an_unknown_secret_of_five_digits_is_estimated():
    secret = f"{int(np.argsort(-WHOLE)[30_000]):05d}"
    found = exposed(secret, samples=500)
    assert (found.rank, found.hit) == (None, False)
    # A share of 0.3 in 500 draws: 5 deviations are 0.1, or half a bit.
    assert found.bits == pytest.approx(exact_exposure(30_001, 10**5), abs=0.6)
    assert found.bits == (found.extrapolated if found.extrapolated is not None else found.sampled)


@pytest.mark.parametrize(("secret", "top"), [("123", 1000), ("12345", 1)])
def test_numbers_drawn_after_training_are_hit_as_often_as_chance_says(secret, top):
    # Three digits with every rank a hit: the coin alone decides. Five digits: one number in 10^5 is named.
    hits = [exposed(secret, top=top, fill=0.3, seed=seed).redrawn_hit for seed in range(100)]
    chance = 0.3 * top / 1000 if top > 1 else 0.0
    assert abs(sum(hits) - 100 * chance) <= 5 * math.sqrt(100 * chance * (1 - chance)) + (chance == 0)
