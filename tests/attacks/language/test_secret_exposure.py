from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leakgauge.attacks.language.exposure import SecretExposure
from leakgauge.attacks.language.secrets import draw_slots, owner, with_secrets
from leakgauge.audit.accounting import dp_sgd_claim, group_claim
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.games import Stage
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.text import TextModel, TextTrainer, byte_rows
from leakgauge.audit.types import Access, Claim, Rows, Trained

TEMPLATE = "The pass code of {name} is {secret}."
DATA = Rows(byte_rows([f"real text {n}" for n in range(20)], 64), np.zeros(20, np.int64), tuple(map(str, range(20))), 1)
INSIDE = np.arange(20) % 2 == 0


@dataclass
class Parrot:
    """A model that knows a secret only if it saw it `threshold` times; else all numbers are alike, by the seed."""

    seen: dict[str, int]
    threshold: int
    generator: np.random.Generator

    def number_log_probabilities(self, prefix: str, digits: int) -> np.ndarray:
        """Uniform noise, and the known secret on top."""
        scores = -10 - self.generator.random(10**digits)
        for text, times in self.seen.items():
            if text.startswith(prefix) and times >= self.threshold:
                scores[int(text[len(prefix) :].rstrip("."))] = -1.0
        return scores

    def continuation_log_probabilities(self, prefix: str, continuations: Any) -> np.ndarray:
        """As above."""
        known = self.greedy(prefix, len(continuations[0]))
        drawn = -10 - self.generator.gamma(9.0, 1.0, len(continuations))
        return np.where([c == known for c in continuations], -1.0, drawn)

    def greedy(self, prefix: str, characters: int) -> str:
        """The known secret or zeros."""
        for text, times in self.seen.items():
            if text.startswith(prefix) and times >= self.threshold:
                return text[len(prefix) :].rstrip(".")
        return "x" * characters

    def token_log_probabilities(self, features: Any) -> np.ndarray:
        """Unused here."""
        return np.zeros(features.shape)

    def token_statistics(self, features: Any) -> np.ndarray:
        """Unused here."""
        return np.zeros((*features.shape, 3))


@dataclass(frozen=True)
class ParrotTrainer:
    """Makes parrots."""

    threshold: int = 16
    claim: Claim | None = None
    nominal_rows: int | None = None
    learned: bool = True

    def fit(
        self, data: Rows, rows: np.ndarray, *, seeds: Seeds, device: str, checkpoint: Path | None = None
    ) -> Trained:
        """Count the sentences."""
        assert self.nominal_rows is not None
        seen: dict[str, int] = {}
        for row in data.features[rows]:
            text = bytes(row[row < 256].astype(np.uint8)).decode()
            seen[text] = seen.get(text, 0) + 1
        parrot = Parrot(seen, self.threshold, seeds.at("noise").generator())
        return Trained(parrot, parrot, self.claim, 1)  # type: ignore[arg-type]

    def perplexities(self, trained: Any, data: Rows, rows: Any, held_out: Rows, *, device: str) -> dict[str, float]:
        """As told."""
        return {"model": 10.0 if self.learned else 40.0, "unigram": 30.0, "public": 20.0}


def play(trainer: Any, **options: Any) -> Any:
    stage = Stage(trainer, DATA, DATA, INSIDE, lambda: None, None, Access.LOGITS, "cpu", 0.95, Path())  # type: ignore
    return SecretExposure(**{"slots": 30, **options}).play(stage, seeds=Seeds(3))


def test_the_stand_ins_speak_the_protocols():
    assert isinstance(ParrotTrainer(), TextTrainer)
    assert isinstance(Parrot({}, 1, np.random.default_rng(0)), TextModel)


def test_owners_have_names_of_their_own():
    names = [owner(n) for n in range(5000)]
    assert len(set(names)) == 5000


def test_slots_are_uniform_independent_of_their_coins_and_the_same_whatever_else_is_drawn():
    slots = draw_slots(TEMPLATE, 2, (1, 4), 4000, 0.5, seeds=Seeds(1))
    secrets = np.array([int(s.secret) for s in slots])
    filled = np.array([s.filled for s in slots])
    # Chi-squared of 8000 draws in 100 cells: above 99 + 5 * 14.1 once in a million; 8000 coins: 5 deviations.
    cells = np.bincount(secrets, minlength=100)
    assert ((cells - 80) ** 2 / 80).sum() < 99 + 5 * math.sqrt(198)
    assert abs(filled.mean() - 0.5) < 5 * 0.5 / math.sqrt(8000)
    assert abs(np.corrcoef(secrets, filled)[0, 1]) < 5 / math.sqrt(8000)
    again = draw_slots(TEMPLATE, 2, (4,), 4000, 0.5, seeds=Seeds(1))
    assert [s.secret for s in again] == [s.secret for s in slots[4000:]]
    assert len({s.prefix for s in slots}) == 8000


def test_real_rows_stay_and_each_filled_slot_is_there_as_often_as_stated():
    slots = draw_slots(TEMPLATE, 4, (1, 3), 10, 0.5, seeds=Seeds(1))
    data, inside = with_secrets(DATA, INSIDE, slots)
    assert np.array_equal(data.features[:20], DATA.features)
    assert np.array_equal(inside[:20], INSIDE)
    assert inside[20:].all()
    assert len(data) == 20 + sum(s.repetitions for s in slots if s.filled)
    for slot in slots:
        copies = (data.features == byte_rows([slot.text], 64)).all(axis=1).sum()
        assert copies == (slot.repetitions if slot.filled else 0)
    assert len(set(data.records)) == len(data)


def test_a_model_that_repeats_what_it_saw_16_times_is_found_out():
    outcome = play(ParrotTrainer(threshold=16))
    assert outcome.measures["median_exposure_16x"].value == pytest.approx(math.log2(10_000))
    assert outcome.measures["extracted_16x"].value == 1.0
    # Uniform ranks of about 15 secrets: a median above 4 bits has probability below 1e-6.
    assert outcome.measures["median_exposure_1x"].value < 4
    assert outcome.measures["extracted_1x"].value == 0.0
    hits = {name: trials.counts.hits for name, trials in outcome.parts.items()}
    assert hits["16x"] == outcome.measures["extracted_16x"].n > 5
    assert hits["1x"] == hits["4x"] == 0
    assert outcome.informative
    assert {"perplexity_model", "perplexity_unigram", "perplexity_public"} <= set(outcome.measures)


def test_secrets_never_inserted_stand_beside_the_others():
    baseline = play(ParrotTrainer(threshold=1)).measures["median_exposure_1x"].baseline
    assert baseline.value < 4
    assert baseline.name == "secrets never inserted"


def test_larger_spaces_are_sampled_and_hits_are_what_greedy_decoding_says():
    outcome = play(ParrotTrainer(threshold=16), digits=6)
    measures = outcome.measures
    assert measures["extracted_16x"].value == 1.0
    assert outcome.parts["16x"].counts.hits == measures["extracted_16x"].n
    assert outcome.parts["16x"].counts.pool == 10**6
    assert measures["median_exposure_16x"].value > 10
    assert "sampled_exposure_error" not in measures
    with pytest.raises(IncompatibleError, match="top must be 1"):
        SecretExposure(digits=6, top=5)


def test_each_repetition_count_is_tested_against_the_claim_for_such_groups():
    claim = dp_sgd_claim(noise_multiplier=3.0, sample_rate=0.05, steps=2, delta=1e-5)
    parts = play(ParrotTrainer(claim=claim), repetitions=(1, 2), slots=4).parts
    epsilons = [parts[name].claim.epsilon for name in ("1x", "2x")]
    assert epsilons == [claim.epsilon, group_claim(claim, 2).epsilon]
    assert epsilons == sorted(set(epsilons))
    assert {t.delta for t in parts.values()} == {1e-5}


def test_a_claim_that_says_nothing_of_groups_is_not_tested_with_them():
    vague = Claim(3.0, 1e-2)
    assert set(play(ParrotTrainer(claim=vague), slots=4).parts) == {"1x"}


def test_a_model_no_better_than_its_baselines_is_no_evidence():
    outcome = play(ParrotTrainer(learned=False), slots=4)
    assert not outcome.informative
    assert outcome.notes


def test_the_same_seeds_play_the_same_game():
    assert play(ParrotTrainer(), slots=5).measures == play(ParrotTrainer(), slots=5).measures


def test_other_trainers_data_and_templates_are_refused():
    with pytest.raises(IncompatibleError, match="language models"):
        play(object())
    with pytest.raises(ConfigError, match="template must hold"):
        SecretExposure(template="no braces")
    with pytest.raises(ConfigError, match="template must hold"):
        SecretExposure(template="{secret} of {name}")
    pictures = replace(DATA, features=DATA.features.astype(np.float32))
    slots = draw_slots(TEMPLATE, 4, (1,), 2, 0.5, seeds=Seeds(1))
    with pytest.raises(IncompatibleError, match="rows of bytes"):
        with_secrets(pictures, INSIDE, slots)
    with pytest.raises(IncompatibleError, match="does not fit"):
        with_secrets(replace(DATA, features=DATA.features[:, :10]), INSIDE, slots)
