from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leakgauge.attacks.language.exposure import SecretExposure
from leakgauge.attacks.language.secrets import draw_slots, owner, with_secrets
from leakgauge.attacks.language.survival import survival
from leakgauge.audit.accounting import dp_sgd_claim, group_claim
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.games import Stage
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.text import TextModel, TextTrainer, byte_rows
from leakgauge.audit.types import Access, Claim, Rows, Trained
from leakgauge.trainers.language import DpLanguage, Language
from leakgauge.trainers.language.defences import Defences, defend

TEMPLATE = "The pass code of {name} is {secret}."
DATA = Rows(byte_rows([f"real text {n}" for n in range(20)], 64), np.zeros(20, np.int64), tuple(map(str, range(20))), 1)
INSIDE = np.arange(20) % 2 == 0
NOTHING = Defences()
TINY: dict[str, Any] = {"layers": 1, "width": 8, "heads": 1, "length": 48, "batch_size": 10}


@dataclass
class Parrot:
    """A model that knows a secret only if it saw it `threshold` times; else all numbers are alike, by the seed."""

    seen: dict[str, int]
    threshold: int
    seeds: Seeds

    def number_log_probabilities(self, prefix: str, digits: int) -> np.ndarray:
        """Uniform noise, and the known secret on top."""
        scores = -10 - self.seeds.at(prefix).generator().random(10**digits)
        known = self.greedy(prefix, digits)
        if known.isdigit():
            scores[int(known)] = -1.0
        return scores

    def continuation_log_probabilities(self, prefix: str, continuations: Any) -> np.ndarray:
        """As above."""
        known = self.greedy(prefix, len(continuations[0]))
        drawn = -10 - self.seeds.at(prefix, "long").generator().gamma(9.0, 1.0, len(continuations))
        return np.where([c == known for c in continuations], -1.0, drawn)

    def greedy(self, prefix: str, characters: int) -> str:
        """The known secret or zeros."""
        for text, times in self.seen.items():
            if text.startswith(prefix) and times >= self.threshold:
                return text[len(prefix) :][:characters]
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
        parrot = Parrot(seen, self.threshold, seeds.at("noise"))
        return Trained(parrot, parrot, self.claim, 1)  # type: ignore[arg-type]

    def perplexities(self, trained: Any, data: Rows, rows: Any, held_out: Rows, *, device: str) -> dict[str, float]:
        """As told."""
        return {"model": 10.0 if self.learned else 40.0, "unigram": 30.0, "public": 20.0}


def play(trainer: Any, **options: Any) -> Any:
    stage = Stage(trainer, DATA, DATA, INSIDE, lambda: None, None, Access.LOGITS, "cpu", 0.95, Path())  # type: ignore
    return SecretExposure(**{"slots": 20, "samples": 100, **options}).play(stage, seeds=Seeds(3))


def test_the_stand_ins_speak_the_protocols():
    assert isinstance(ParrotTrainer(), TextTrainer)
    assert isinstance(Parrot({}, 1, Seeds(0)), TextModel)


def test_owners_have_names_of_their_own():
    names = [owner(n) for n in range(5000)]
    assert len(set(names)) == 5000


def test_slots_are_uniform_independent_of_their_coins_and_the_same_whatever_else_is_drawn():
    slots = draw_slots(TEMPLATE, (2,), (1, 4), 4000, 0.5, seeds=Seeds(1))
    secrets = np.array([int(s.secret) for s in slots])
    filled = np.array([s.filled for s in slots])
    # Chi-squared of 8000 draws in 100 cells: above 99 + 5 * 14.1 once in a million; 8000 coins: 5 deviations.
    cells = np.bincount(secrets, minlength=100)
    assert ((cells - 80) ** 2 / 80).sum() < 99 + 5 * math.sqrt(198)
    assert abs(filled.mean() - 0.5) < 5 * 0.5 / math.sqrt(8000)
    assert abs(np.corrcoef(secrets, filled)[0, 1]) < 5 / math.sqrt(8000)
    again = draw_slots(TEMPLATE, (2,), (4,), 4000, 0.5, seeds=Seeds(1))
    assert [s.secret for s in again] == [s.secret for s in slots[4000:]]
    assert len({s.prefix for s in slots}) == 8000


def test_real_rows_stay_and_each_filled_slot_is_there_as_often_as_stated():
    slots = draw_slots(TEMPLATE, (4,), (1, 3), 10, 0.5, seeds=Seeds(1))
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
    # Uniform ranks of about 10 secrets: a median above 4 bits has probability below 3e-4.
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


def test_two_spaces_share_one_training_and_are_counted_apart():
    outcome = play(ParrotTrainer(threshold=16), digits=(4, 6), slots=12, top=5)
    names = [f"{size}-digits/{count}x" for size in (4, 6) for count in (1, 4, 16)]
    assert list(outcome.parts) == names
    assert {n: t.counts.pool for n, t in outcome.parts.items()} == {n: 10 ** int(n[0]) for n in names}
    assert all(t.counts.slots == 12 for t in outcome.parts.values())
    assert {t.counts.top for n, t in outcome.parts.items() if n[0] == "4"} == {5}
    assert {t.counts.top for n, t in outcome.parts.items() if n[0] == "6"} == {1}
    assert outcome.measures["median_exposure_4_digits_16x"].value == pytest.approx(math.log2(10**4))
    assert outcome.measures["median_exposure_6_digits_16x"].value == pytest.approx(math.log2(10**6))
    assert outcome.parts["6-digits/16x"].counts.hits == outcome.measures["extracted_6_digits_16x"].n > 1
    assert [len(series.lines) for series in outcome.series] == [4, 4]
    # What is about one part stands in its finding alone; perplexities stand in each.
    own = {m for t in outcome.parts.values() for m in t.measures}
    assert "extracted_4_digits_1x" in outcome.parts["4-digits/1x"].measures
    assert "perplexity_model" not in own
    assert len(own) == sum(len(t.measures) for t in outcome.parts.values())


def test_slots_of_one_space_do_not_depend_on_the_others():
    both = draw_slots(TEMPLATE, (4, 6), (1, 4), 50, 0.5, seeds=Seeds(1))
    alone = draw_slots(TEMPLATE, (6,), (1, 4), 50, 0.5, seeds=Seeds(1))
    assert [(s.secret, s.filled) for s in both[100:]] == [(s.secret, s.filled) for s in alone]
    assert {len(s.secret) for s in both[:100]} == {4}
    assert len({s.prefix for s in both}) == 200


def test_answers_to_secrets_drawn_afterwards_are_the_negative_control():
    # A parrot that names every secret is hit by a fresh draw once in 10^4: never in 15 slots but for one run in 700.
    parts = play(ParrotTrainer(threshold=1), slots=30).parts
    assert all(t.counts.hits > 5 for t in parts.values())
    assert {t.redrawn.hits for t in parts.values()} == {0}
    assert {t.redrawn.slots for t in parts.values()} == {30}


@dataclass(frozen=True)
class DefendedParrotTrainer(ParrotTrainer):
    """Scrubs or drops before it counts."""

    defences: Defences = NOTHING

    def defended(self, data: Rows, rows: np.ndarray, *, seeds: Seeds) -> Any:
        """As the real trainers do."""
        return defend(data.features, rows, self.defences, seeds=seeds.at("defences"))

    def fit(
        self, data: Rows, rows: np.ndarray, *, seeds: Seeds, device: str, checkpoint: Path | None = None
    ) -> Trained:
        """Of what the defences leave."""
        done = self.defended(data, rows, seeds=seeds)
        return ParrotTrainer.fit(self, replace(data, features=done.features), done.inside, seeds=seeds, device=device)


def surviving(outcome: Any) -> list[float]:
    return [outcome.measures[f"surviving_{count}x"].value for count in (1, 4, 16)]


def test_it_is_said_which_secrets_a_defence_left_and_what_it_removed():
    scrubbed = play(DefendedParrotTrainer(threshold=1, defences=Defences(("number",))))
    copies = sum(trials.group * scrubbed.measures[f"extracted_{n}"].n for n, trials in scrubbed.parts.items())
    assert surviving(scrubbed) == [0.0, 0.0, 0.0]
    assert scrubbed.measures["scrubbed_number"].value == copies
    assert f"{copies} values of kind number removed" in scrubbed.notes[0]
    assert f"of {copies} inserted copies of secrets 0 still held" in scrubbed.notes[0]
    assert scrubbed.measures["extracted_16x"].value == 0.0
    # Nothing is left to learn: uniform ranks, as for secrets that were never inserted.
    assert scrubbed.measures["median_exposure_16x"].value < 4
    useless = play(DefendedParrotTrainer(threshold=1, defences=Defences(("email",))))
    assert surviving(useless) == [1.0, 1.0, 1.0]
    assert useless.measures["extracted_1x"].value == 1.0


def test_copies_that_a_defence_drops_or_draws_anew_do_not_survive():
    dropped = play(DefendedParrotTrainer(defences=Defences(deduplicate=True)))
    assert surviving(dropped) == [1.0, 1 / 4, 1 / 16]
    assert dropped.measures["extracted_16x"].value == 0.0
    assert dropped.measures["rows_dropped_exact"].value > 0
    # About 160 copies at 16 repetitions, each drawn anew with probability 1/4: 5 deviations are 0.17.
    drawn = play(DefendedParrotTrainer(defences=Defences(randomise=0.25)))
    assert surviving(drawn)[2] == pytest.approx(0.75, abs=0.17)
    assert "surviving_1x" not in play(ParrotTrainer()).measures


def test_the_plan_knows_what_the_game_will_count():
    claimed = DpLanguage(**TINY, noise_multiplier=2.0, nominal_rows=60)
    game = SecretExposure(digits=(1, 5), slots=6, repetitions=(1, 2))
    planned = game.planned(claimed)
    assert list(planned) == ["1-digits/1x", "1-digits/2x", "5-digits/1x", "5-digits/2x"]
    claim = claimed.planned_claim(60)
    assert [t.claim.epsilon for t in planned.values()] == [claim.epsilon, group_claim(claim, 2).epsilon] * 2
    assert {t.counts.hits for t in planned.values()} == {3}
    assert game.planned(replace(claimed, nominal_rows=None)) == {}
    assert {t.claim for t in game.planned(claimed.unprotected()).values()} == {None}


def test_real_trainers_tell_what_they_train_on():
    trainer = Language(**TINY, randomise=0.5, epochs=0.1)
    slots = draw_slots(TEMPLATE, (4,), (4,), 20, 0.5, seeds=Seeds(1))
    data, inside = with_secrets(DATA, INSIDE, slots)
    found = survival(trainer, data, inside, slots, seeds=Seeds(2))
    assert found is not None
    trained = trainer.fit(data, inside, seeds=Seeds(2), device="cpu")
    assert {key: trained.metrics[key] for key in found.removed} == dict(found.removed)
    assert 0 < found.surviving.sum() < found.inserted.sum()
    assert survival(replace(trainer, randomise=0.0), data, inside, slots, seeds=Seeds(2)) is None


def test_other_trainers_data_and_templates_are_refused():
    with pytest.raises(IncompatibleError, match="language models"):
        play(object())
    with pytest.raises(ConfigError, match="template must hold"):
        SecretExposure(template="no braces")
    with pytest.raises(ConfigError, match="template must hold"):
        SecretExposure(template="{secret} of {name}")
    with pytest.raises(ConfigError, match="digits must name each value once"):
        SecretExposure(digits=(4, 4))
    with pytest.raises(ConfigError, match="repetitions must name each value once"):
        SecretExposure(repetitions=())
    pictures = replace(DATA, features=DATA.features.astype(np.float32))
    slots = draw_slots(TEMPLATE, (4,), (1,), 2, 0.5, seeds=Seeds(1))
    with pytest.raises(IncompatibleError, match="rows of bytes"):
        with_secrets(pictures, INSIDE, slots)
    with pytest.raises(IncompatibleError, match="does not fit"):
        with_secrets(replace(DATA, features=DATA.features[:, :10]), INSIDE, slots)
