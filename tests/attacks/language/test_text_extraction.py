from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leakgauge.attacks.language.continuation import (
    among_beams,
    continued_greedily,
    discoverable,
    long_enough,
    queries_needed,
    sampled_log_probabilities,
)
from leakgauge.attacks.language.extraction import NEVER_TRAINED, TextExtraction
from leakgauge.attacks.language.untargeted import Written, different, prompts_of, rankings, verbatim, written_by_beams
from leakgauge.audit.conduct import conduct
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.games import Stage
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.text import NO_TOKEN, Beams, Sampling, TextGenerator, byte_rows
from leakgauge.audit.types import Access, Rows, Trained

ALPHABET = 257


@dataclass
class Learner:
    """Knows some texts: where a prefix is the beginning of one of them, its next byte has probability `sure`, and all
    others share the rest; elsewhere all bytes are alike. Greedy decoding follows the first text that fits."""

    texts: list[bytes]
    sure: float = 0.9
    context: int = 64

    def _next(self, before: bytes) -> int | None:
        return next((t[len(before)] for t in self.texts if t.startswith(before) and len(t) > len(before)), None)

    def _law(self, before: bytes) -> np.ndarray:
        known = self._next(before)
        if known is None:
            return np.full(ALPHABET, 1 / ALPHABET)
        law = np.full(ALPHABET, (1 - self.sure) / (ALPHABET - 1))
        law[known] = self.sure
        return law

    def encode(self, text: str) -> np.ndarray:
        """Bytes."""
        return np.array(list(text.encode()), np.int64)

    def encode_rows(self, features: Any) -> np.ndarray:
        """Bytes."""
        return np.where(features == 256, NO_TOKEN, features)

    def decode(self, tokens: Any) -> str:
        """Bytes."""
        return bytes(int(t) for t in tokens if 0 <= t < 256).decode("utf-8", "replace")

    def continue_greedily(self, prefixes: Sequence[Any], count: int) -> np.ndarray:
        """Byte after byte."""
        return self._grow(prefixes, count, lambda law: int(law.argmax()))

    def continue_randomly(self, prefixes: Sequence[Any], count: int, sampling: Sampling, *, seeds: Seeds) -> np.ndarray:
        """Byte after byte."""
        generator = seeds.generator()
        return self._grow(prefixes, count, lambda law: int(generator.choice(ALPHABET, p=law / law.sum())))

    def continue_by_beams(self, prefixes: Sequence[Any], count: int, beams: int) -> Beams:
        """The known text and then rubbish."""
        greedy = self.continue_greedily(prefixes, count)
        tokens = np.stack([greedy + shift for shift in range(beams)], axis=1) % 256
        return Beams(tokens, -np.tile(np.arange(1.0, beams + 1), (len(prefixes), 1)))

    def likeliest_tokens(self, texts: Any, count: int) -> Any:
        """Unused here."""
        raise NotImplementedError

    def suffix_log_probabilities(self, prefixes: Any, suffixes: Any, sampling: Sampling) -> np.ndarray:
        """Summed, of the plain law."""
        out = []
        for prefix, suffix in zip(prefixes, suffixes, strict=True):
            before, total = bytes(np.asarray(prefix).tolist()), 0.0
            for token in np.asarray(suffix).tolist():
                total += float(np.log(self._law(before)[token]))
                before += bytes([min(token, 255)])
            out.append(total)
        return np.array(out)

    def _grow(self, prefixes: Sequence[Any], count: int, choose: Any) -> np.ndarray:
        rows = []
        for prefix in prefixes:
            before = bytes(np.asarray(prefix).tolist())
            for _ in range(count):
                before += bytes([min(255, choose(self._law(before)))])
            rows.append(list(before[-count:]))
        return np.array(rows, np.int64)


def texts_of(side: str, count: int, length: int = 40) -> list[str]:
    """Different printable texts."""
    generator = Seeds(1).at(side).generator()
    return ["".join(chr(c) for c in generator.integers(97, 123, size=length)) for _ in range(count)]


def rows_of(texts: list[str], width: int = 40) -> Rows:
    return Rows(byte_rows(texts, width), np.zeros(len(texts), np.int64), tuple(f"r{k}" for k in range(len(texts))), 1)


MEMBERS, OTHERS, PUBLIC = texts_of("members", 30), texts_of("others", 25), texts_of("public", 20)


@dataclass(frozen=True)
class LearnerTrainer:
    """Learns `share` of its texts by heart."""

    share: float = 1.0
    sure: float = 0.9
    learned: bool = True

    def fit(self, data: Rows, rows: Any, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """By heart."""
        texts = [bytes(row[row < 256].astype(np.uint8)) for row in data.features[rows]]
        model = Learner(texts[: round(self.share * len(texts))], self.sure)
        return Trained(model, model, None, 1)  # type: ignore[arg-type]

    def perplexities(self, trained: Any, data: Rows, rows: Any, held_out: Rows, *, device: str) -> dict[str, float]:
        """As told."""
        return {"model": 10.0 if self.learned else 40.0, "unigram": 30.0}


def play(trainer: Any = None, **options: Any) -> Any:
    trainer = trainer or LearnerTrainer()
    private, inside = rows_of(MEMBERS + OTHERS), np.arange(55) < 30
    trained = lambda: trainer.fit(private, inside, seeds=Seeds(1), device="cpu")  # noqa: E731
    stage = Stage(
        trainer,
        rows_of(PUBLIC),
        private,
        inside,
        trained,
        None,
        Access.LOGITS,
        "cpu",
        0.95,
        Path(),  # type: ignore
    )
    given = {"suffix": 4, "samples": 20, "sample_tokens": 20, "verbatim_bytes": 10, "top": 5, **options}
    return TextExtraction(**given).play(stage, seeds=Seeds(3))


def test_the_stand_in_speaks_the_protocol():
    assert isinstance(Learner([]), TextGenerator)


def test_rows_known_by_heart_are_extracted_and_others_are_not():
    measures = play().measures
    for name in ("extracted_greedily_8", "extracted_greedily_16", "extracted_by_beams_16"):
        found = measures[name]
        assert (found.value, found.n) == (1.0, 30)
        assert (found.baseline.value, found.baseline.n, found.baseline.name) == (0.0, 25, NEVER_TRAINED)
        assert found.low == pytest.approx(0.025 ** (1 / 30))
        assert found.baseline.high == pytest.approx(1 - 0.025 ** (1 / 25))


def test_only_what_was_learned_is_extracted():
    assert play(LearnerTrainer(share=0.4)).measures["extracted_greedily_16"].value == pytest.approx(12 / 30)


def test_discoverable_rows_follow_from_the_probability_of_the_rest():
    # Four bytes at 0.5 each: p_z = 1/16. Ten tries: 1 - (15/16)^10 = 0.475; eleven: 0.508.
    outcome = play(LearnerTrainer(sure=0.5), queries=(1, 10, 11))
    assert [outcome.measures[f"discoverable_{n}"].value for n in (1, 10, 11)] == [0.0, 0.0, 1.0]
    assert outcome.measures["discoverable_11"].baseline.value == 0.0
    lines = {line.name: line for line in outcome.series[1].lines}
    members = lines["training rows, p = 0.5"]
    # The grid has 10 and 32 tries.
    assert members.y[members.x.index(10.0)] == 0.0
    assert members.y[members.x.index(32.0)] == 1.0
    assert lines[f"{NEVER_TRAINED}, p = 0.5"].y[-1] == 0.0
    assert outcome.examples[0].score == pytest.approx(1 / 16)


def test_discoverable_against_simulated_queries():
    generator = Seeds(4).generator()
    chances = np.array([0.002, 0.05, 0.3, 1.0, 0.0])
    with np.errstate(divide="ignore"):
        logs = np.log(chances)
    for n, p in ((1, 0.2), (10, 0.35), (40, 0.8), (300, 0.5)):
        # 20 000 games of n tries; no chance here lies within five deviations (0.018) of p.
        hits = (generator.random((20_000, n))[:, :, None] < chances).any(axis=1).mean(axis=0)
        assert np.abs(hits - p).min() > 0.018
        assert discoverable(logs, n, p).tolist() == (hits >= p).tolist()


def test_the_number_of_queries_needed_is_the_least_that_suffices():
    logs = np.log(np.array([0.9, 0.3, 0.01, 1e-9]))
    needed = queries_needed(logs, 0.75)
    for log, n in zip(logs, needed, strict=True):
        assert discoverable(np.array([log]), int(n), 0.75).all()
        assert n == 1 or not discoverable(np.array([log]), int(n) - 1, 0.75).any()
    # Tiny probabilities: ln(1 - p) / -p_z, without rounding.
    assert needed[-1] == pytest.approx(np.log(4) * 1e9, rel=1e-6)
    assert queries_needed(np.array([-np.inf, 0.0]), 0.5).tolist() == [np.inf, 1.0]


def test_parts_of_the_game_by_themselves():
    rows = Learner([]).encode_rows(rows_of(["abcdef", "abx", "abcdxx"], 6).features)
    assert long_enough(rows, 4).tolist() == [0, 2]
    model = Learner([b"abcdef"])
    chosen = rows[[0, 2]]
    found = continued_greedily(model, chosen, 2, 4)
    assert found.exact.tolist() == [True, False]
    assert found.greedy.tolist() == [list(b"cdef")] * 2
    assert among_beams(model, chosen, 2, 4, 3).tolist() == [True, False]
    logs = sampled_log_probabilities(model, chosen, 2, 4, Sampling())
    assert logs == pytest.approx([4 * np.log(0.9), 2 * np.log(0.9) + np.log(0.1 / 256) + np.log(1 / 257)])


def test_verbatim_runs_against_every_pair_of_windows():
    generator = Seeds(6).generator()
    texts = ["".join("ab"[c] for c in generator.integers(2, size=12)) for _ in range(30)]
    rows = rows_of(["".join("ab"[c] for c in generator.integers(2, size=20)) for _ in range(6)], 20)
    for length in (4, 7, 9, 12, 13):
        wanted = [
            any(
                text[s : s + length] in bytes(row[row < 256].astype(np.uint8)).decode()
                for row in rows.features
                for s in range(len(text) - length + 1)
            )
            for text in texts
        ]
        assert verbatim(texts, rows.features, length).tolist() == wanted
    assert not verbatim(texts, rows.features[:0], 3).any()


def test_untargeted_texts_are_ranked_and_looked_up():
    # Prompts are beginnings of public rows, which are beginnings of members here: the model then recites.
    private, inside = rows_of(MEMBERS + OTHERS), np.arange(55) < 30
    trainer = LearnerTrainer(share=0.5, sure=0.999)
    public = rows_of(MEMBERS)
    stage = Stage(
        trainer,
        public,
        private,
        inside,
        lambda: trainer.fit(private, inside, seeds=Seeds(1), device="cpu"),
        None,
        Access.LOGITS,
        "cpu",
        0.95,
        Path(),
    )  # type: ignore[arg-type]
    game = TextExtraction(suffix=4, samples=30, sample_tokens=20, prompt_tokens=5, top=5, verbatim_bytes=10)
    measures = game.play(stage, seeds=Seeds(3)).measures
    assert 0 < measures["verbatim_all"].value < 1
    for name in ("perplexity", "zlib"):
        assert measures[f"verbatim_top_{name}"].value == 1.0
        assert measures[f"verbatim_top_{name}"].baseline.value == 0.0
    assert "verbatim_top_reference" not in measures


def test_a_reference_model_is_trained_on_public_rows_when_wanted():
    assert "verbatim_top_reference" in play(reference=True, samples=5).measures
    assert not any(name.startswith("verbatim") for name in play(samples=0).measures)


def test_rankings_by_hand():
    model, written = Learner([b"AbAb"], 0.5), Written((np.array([65]),), (np.array([98, 65]),), ("bA",))
    found = rankings(model, written, Learner([]))
    own = np.log(0.5)
    assert found["perplexity"] == pytest.approx([own])
    # zlib makes 10 bytes of 2.
    assert found["zlib"] == pytest.approx([2 * own / 10])
    # In lower case the second byte is rubbish: 0.5 and then 0.5 / 256.
    lowered = (np.log(0.5) + np.log(0.5 / 256)) / 2
    assert found["lower-case"] == pytest.approx([-own / lowered])
    assert found["reference"] == pytest.approx([own - np.log(1 / 257)])


def test_texts_are_counted_once():
    model = Learner([b"abcd"])
    prompts = [np.array([97])] * 3
    same = different(model, prompts, [np.array([98]), np.array([98]), np.array([99])])
    assert same.texts == ("b", "c")
    assert len(written_by_beams(model, prompts, 2, 4)) == 4
    assert prompts_of(model, rows_of(["ab", "abc"]).features, 9, 3, seeds=Seeds(1))[0].tolist() == [97, 98, 99]
    assert prompts_of(model, rows_of(["ab"]).features, 9, 3, seeds=Seeds(1)) == []


def test_a_model_that_learned_nothing_is_no_evidence():
    outcome = play(LearnerTrainer(learned=False), samples=0)
    assert not outcome.informative
    assert outcome.notes


def test_mistakes_are_refused():
    with pytest.raises(IncompatibleError, match="no row has 41 tokens"):
        play(prefixes=(37,))
    with pytest.raises(ConfigError, match="prefixes must be an integer >= 1"):
        TextExtraction(prefixes=())
    with pytest.raises(ConfigError, match="top_p must lie"):
        TextExtraction(top_p=0.0)
    with pytest.raises(ConfigError, match="probability must be a number in"):
        TextExtraction(probability=1.0)
    with pytest.raises(IncompatibleError, match="causal language model"):
        play(Silent())


@dataclass(frozen=True)
class Silent(LearnerTrainer):
    """A trainer whose models write nothing."""

    def fit(self, data: Rows, rows: Any, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """Nothing."""
        return Trained(None, object(), None, 1)  # type: ignore[arg-type]


AUDIT = """
[audit]
name = "extraction"
seed = 5
access = ["logits"]
[data]
name = "prose-private"
text_encoding = "bytes"
text_length = 24
limit = 60
[design]
audit_records = 40
[[trainer]]
name = "language"
layers = 1
width = 48
heads = 2
length = 24
epochs = 60
batch_size = 8
learning_rate = 0.008
[[attack]]
name = "text-extraction"
prefixes = [8, 16]
suffix = 8
samples = 30
sample_tokens = 16
verbatim_bytes = 12
top = 5
"""


def test_a_small_model_gives_back_what_it_learned_by_heart(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text(AUDIT)
    conduct(path, tmp_path / "out", [], device="cpu", quiet=True, command="test")
    document = json.loads((tmp_path / "out" / "audit.json").read_text())
    (finding,) = document["findings"]
    assert (finding["rule"], finding["verdict"], finding["reason"]) == (
        "extraction.text-extraction",
        "no-claim",
        "measured-only",
    )
    measures = finding["metrics"]["measures"]
    # Seen: 9 of 19 against 0 of 21.
    assert measures["extracted_greedily_16"]["value"] > 0.2
    assert measures["extracted_greedily_16"]["baseline"]["value"] < 0.1
    assert measures["discoverable_100"]["value"] >= measures["discoverable_1"]["value"]
    # What was recovered is kept out of the document.
    assert all("original" not in example for example in finding["examples"])
