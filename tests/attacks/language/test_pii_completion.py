from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leakgauge.attacks.language.persons import KINDS, SPACE, candidates_of, draw_persons, redrawn_hits, value_of
from leakgauge.attacks.language.pii import NEVER_INSERTED, PiiCompletion, named
from leakgauge.audit.accounting import dp_sgd_claim, group_claim
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.games import Stage
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.text import NO_TOKEN, Sampling, byte_rows
from leakgauge.audit.types import Access, Claim, Rows, Trained

DATA = Rows(byte_rows([f"real text {n}" for n in range(20)], 80), np.zeros(20, np.int64), tuple(map(str, range(20))), 1)
INSIDE = np.arange(20) % 2 == 0


@dataclass
class Memory:
    """Continues a sentence that it saw `threshold` times; knows nothing else."""

    seen: dict[str, int]
    threshold: int
    context: int = 200

    def _rest(self, prefix: str) -> str:
        known = (t[len(prefix) :] for t, n in self.seen.items() if t.startswith(prefix) and n >= self.threshold)
        return next(known, "")

    def encode(self, text: str) -> np.ndarray:
        """Bytes."""
        return np.array(list(text.encode()), np.int64)

    def encode_rows(self, features: Any) -> np.ndarray:
        """Bytes."""
        return np.where(features == 256, NO_TOKEN, features)

    def decode(self, tokens: Any) -> str:
        """Bytes."""
        return bytes(int(t) for t in tokens).decode()

    def continue_greedily(self, prefixes: Sequence[Any], count: int) -> np.ndarray:
        """The sentence, or dots."""
        texts = [self._rest(self.decode(p)).ljust(count, "?")[:count] for p in prefixes]
        return np.array([self.encode(t) for t in texts])

    def suffix_log_probabilities(self, prefixes: Any, suffixes: Any, sampling: Sampling) -> np.ndarray:
        """-1 for what it knows, -9 for all else."""
        pairs = [(self.decode(p), self.decode(s)) for p, s in zip(prefixes, suffixes, strict=True)]
        return np.array([-1.0 if s and self._rest(p).startswith(s) else -9.0 for p, s in pairs])

    continue_randomly = continue_by_beams = likeliest_tokens = continue_greedily


@dataclass(frozen=True)
class MemoryTrainer:
    """Counts sentences; with `scrub` without the digits of telephone numbers, as a scrubbing trainer would."""

    threshold: int = 16
    claim: Claim | None = None
    scrub: bool = False
    nominal_rows: int | None = None

    def fit(self, data: Rows, rows: Any, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """Count."""
        assert self.nominal_rows is not None
        seen: dict[str, int] = {}
        for row in data.features[rows]:
            text = bytes(row[row < 256].astype(np.uint8)).decode()
            if self.scrub:
                text = "".join("#" if c.isdigit() else c for c in text)
            seen[text] = seen.get(text, 0) + 1
        memory = Memory(seen, self.threshold)
        return Trained(memory, memory, self.claim, 1)  # type: ignore[arg-type]

    def perplexities(self, trained: Any, data: Rows, rows: Any, held_out: Rows, *, device: str) -> dict[str, float]:
        """Good."""
        return {"model": 10.0, "unigram": 30.0}


def play(trainer: Any, **options: Any) -> Any:
    stage = Stage(trainer, DATA, DATA, INSIDE, lambda: None, None, Access.LOGITS, "cpu", 0.95, Path())  # type: ignore
    return PiiCompletion(**{"slots": 30, **options}).play(stage, seeds=Seeds(3))


@pytest.mark.parametrize("kind", KINDS)
def test_every_space_has_ten_thousand_different_values(kind):
    values = [value_of(kind, n) for n in range(SPACE)]
    assert len(set(values)) == SPACE == 10_000
    assert all(value and value == value.strip() and value.isascii() for value in values)


def test_values_belong_to_nobody():
    assert all(value_of("email", n).endswith("@example.com") for n in range(0, SPACE, 37))
    # Ofcom's numbers for fiction: area code, 496 0 and three digits.
    assert {value_of("phone", n)[5:10] for n in range(0, SPACE, 37)} == {"496 0"}


def test_slots_are_uniform_and_do_not_depend_on_their_coins():
    persons = draw_persons(KINDS, (1, 4), 3000, 0.5, seeds=Seeds(1))
    numbers = np.array([p.number for p in persons])
    filled = np.array([p.slot.filled for p in persons])
    # 6000 draws in 100 cells: chi-squared above 99 + 5 * 14.1 once in a million; 6000 coins: five deviations.
    cells = np.bincount(numbers // 100, minlength=100)
    assert ((cells - 60) ** 2 / 60).sum() < 99 + 5 * np.sqrt(198)
    assert abs(filled.mean() - 0.5) < 5 * 0.5 / np.sqrt(6000)
    assert len({p.slot.prefix for p in persons}) == 6000
    assert [p.kind for p in persons[:4]] == ["name", "phone", "email", "name"]
    again = draw_persons(KINDS, (4,), 3000, 0.5, seeds=Seeds(1))
    assert [p.number for p in again] == numbers[3000:].tolist()


def test_completions_are_read_up_to_the_end_of_the_sentence():
    persons = {p.kind: p for p in draw_persons(KINDS, (1,), 3, 0.5, seeds=Seeds(1))}
    assert named(persons["name"], " Ada Wolf. Then") == "Ada Wolf"
    assert named(persons["name"], " Ada Wolf and") is None
    assert named(persons["name"], "Ada Wolf.") is None
    assert named(persons["phone"], " 0113 496 0000 soon.") == "0113 496 0000"
    assert named(persons["phone"], " 0113 496 00001") is None
    assert named(persons["email"], " ada.abbott@example.com about it.") == "ada.abbott@example.com"
    assert named(persons["email"], "") is None


def test_what_was_inserted_often_is_completed_and_nothing_else():
    outcome = play(MemoryTrainer(threshold=16))
    measures = outcome.measures
    assert measures["completed_16x"].value == measures["inferred_16x"].value == 1.0
    assert measures["completed_1x"].value == measures["inferred_1x"].value == 0.0
    baseline = measures["completed_16x"].baseline
    assert (baseline.value, baseline.name) == (0.0, NEVER_INSERTED)
    assert {f"completed_{kind}" for kind in KINDS} <= set(measures)
    hits = {name: trials.counts.hits for name, trials in outcome.parts.items()}
    assert hits["16x"] == measures["completed_16x"].n > 5
    assert hits["1x"] == hits["4x"] == 0
    assert outcome.parts["4x"].measures == ("completed_4x", "inferred_4x")
    assert {(t.counts.pool, t.counts.top, t.redrawn.hits) for t in outcome.parts.values()} == {(SPACE, 1, 0)}
    assert outcome.informative
    assert any("@example.com" in example.original for example in outcome.examples)
    assert all(example.original.startswith(example.reconstruction[:20]) for example in outcome.examples)


def test_a_trainer_that_scrubs_numbers_gives_none_of_them():
    measures = play(MemoryTrainer(threshold=1, scrub=True)).measures
    assert measures["completed_phone"].value == 0.0
    assert measures["completed_name"].value > 0.9
    assert play(MemoryTrainer(threshold=1)).measures["completed_phone"].value == 1.0


def test_each_repetition_count_is_tested_against_the_claim_for_such_groups():
    claim = dp_sgd_claim(noise_multiplier=3.0, sample_rate=0.05, steps=2, delta=1e-5)
    parts = play(MemoryTrainer(claim=claim), repetitions=(1, 2), slots=4).parts
    assert [parts[name].claim.epsilon for name in ("1x", "2x")] == [claim.epsilon, group_claim(claim, 2).epsilon]
    vague = Claim(3.0, 1e-2)
    assert set(play(MemoryTrainer(claim=vague), slots=4).parts) == {"1x"}


def test_the_plan_knows_what_will_be_counted():
    planned = PiiCompletion(slots=24, repetitions=(1, 4)).planned(MemoryTrainer())
    assert {name: (t.counts.slots, t.counts.hits, t.counts.pool, t.group) for name, t in planned.items()} == {
        "1x": (24, 12, SPACE, 1),
        "4x": (24, 12, SPACE, 4),
    }


def test_fresh_truths_are_hit_by_chance_only():
    persons = draw_persons(("phone",), (1,), 4000, 0.5, seeds=Seeds(2))
    # The answer that is right for all redrawn values is unknown; one fixed answer is right once in 20 000.
    answers = [value_of("phone", 7)] * 4000
    hits = sum(redrawn_hits(persons, answers, 0.5, seeds=Seeds(s)) for s in range(20))
    # 80 000 tries at 1 / 20 000: four expected, above 20 with probability below 1e-8.
    assert 0 <= hits <= 20
    assert redrawn_hits(persons, [None] * 4000, 0.5, seeds=Seeds(1)) == 0


def test_candidates_are_different_and_hold_the_truth_first():
    (person,) = draw_persons(("name",), (1,), 1, 0.5, seeds=Seeds(1))
    found = candidates_of(person, 50, seeds=Seeds(2))
    assert len(set(found)) == 50
    assert found[0] == person.slot.secret == f" {person.value}"
    assert len(candidates_of(person, SPACE, seeds=Seeds(2))) == SPACE


def test_the_same_seeds_play_the_same_game():
    assert play(MemoryTrainer(), slots=5).measures == play(MemoryTrainer(), slots=5).measures


def test_mistakes_are_refused():
    with pytest.raises(ConfigError, match="kinds must be one of"):
        PiiCompletion(kinds=("address",))
    with pytest.raises(ConfigError, match="repetitions must be an integer"):
        PiiCompletion(repetitions=())
    with pytest.raises(IncompatibleError, match="candidates must be at most 10000"):
        PiiCompletion(candidates=20_000)
    with pytest.raises(IncompatibleError, match="needs a trainer of language models"):
        play(object())
