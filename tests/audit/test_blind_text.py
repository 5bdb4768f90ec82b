from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from leakgauge.audit import blind, existing
from leakgauge.audit import run as conductor
from leakgauge.audit.blind import blind_baseline
from leakgauge.audit.blind_features import VOCABULARY, describe_words, is_byte_text
from leakgauge.audit.conduct import conduct
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.text import byte_rows
from leakgauge.audit.types import Rows
from leakgauge.trainers.data import position_ids

NOUNS = (
    "report",
    "meeting",
    "letter",
    "budget",
    "garden",
    "engine",
    "river",
    "market",
    "teacher",
    "window",
    "road",
    "winter",
)
VERBS = ("began", "ended", "changed", "improved", "failed", "moved", "grew", "stopped", "returned", "closed", "opened")


def rows_of(texts: list[str], width: int = 64) -> Rows:
    return Rows(byte_rows(texts, width), np.zeros(len(texts), np.int64), tuple(f"r{i}" for i in range(len(texts))), 1)


def sentence(generator: np.random.Generator, year: int) -> str:
    """An ordinary sentence that mentions a year."""
    return f"The {generator.choice(NOUNS)} {generator.choice(VERBS)} in {year}, the {generator.choice(NOUNS)} too."


def shifted(generator: np.random.Generator, inside: np.ndarray) -> list[str]:
    """Members mention 2010 to 2015, others 2020 to 2024."""
    return [
        sentence(generator, int(generator.integers(2010, 2016) if i else generator.integers(2020, 2025)))
        for i in inside
    ]


def test_words_and_runs_of_bytes_are_counted_as_a_loop_counts_them() -> None:
    texts = ["Red, red roses 12", "a red  Rose", "", "ée red"]
    found = describe_words(rows_of(texts, 20), np.arange(4))
    assert found is not None
    columns = []
    for count in (
        lambda text: Counter(text.lower().replace(",", " ").split()),
        lambda text: Counter(_runs(text.encode().lower())),
    ):
        counters = [count(text) for text in texts]
        columns += [[c[word] for c in counters] for word in set().union(*counters)]
    for column in columns:
        # Every word and every run has its own column: ln(1 + count), standardised; constant ones are left out.
        wanted = np.log1p(column)
        if wanted.std() > 0:
            wanted = (wanted - wanted.mean()) / wanted.std()
            assert np.isclose(found, wanted[:, None]).all(axis=0).any(), column


def _runs(data: bytes) -> list[bytes]:
    return [data[k : k + 3] for k in range(len(data) - 2)]


def test_only_rows_of_bytes_have_words() -> None:
    tokens = rows_of(["abc"] * 4)
    assert is_byte_text(tokens)
    for features in (tokens.features + 30000, tokens.features.astype(np.float32), tokens.features[:, :, None]):
        rows = Rows(features, tokens.labels, tokens.records, 1)
        assert not is_byte_text(rows)
        assert describe_words(rows, np.arange(4)) is None


def test_records_own_coordinates_change_no_prediction() -> None:
    generator = Seeds(8).generator()
    known, unknown = generator.normal(size=(30, 200)), generator.normal(size=(20, 200))
    truth = generator.random(30) < 0.5
    found = blind._logistic(known, truth, unknown, Seeds(1))
    wide = LogisticRegression(C=0.05, solver="newton-cholesky").fit(known, truth).decision_function(unknown)
    assert found == pytest.approx(wide, abs=1e-4)


def test_many_words_and_short_rows_make_a_table() -> None:
    generator = Seeds(1).generator()
    texts = [" ".join(f"w{n}" for n in generator.integers(3000, size=9)) for _ in range(300)]
    found = describe_words(rows_of(texts), np.arange(300))
    assert found is not None
    assert VOCABULARY < found.shape[1] <= 2 * (VOCABULARY + 2)
    short = describe_words(rows_of(["a", "", "b", "a"], 1), np.arange(4))
    assert short is not None
    assert len(short) == 4


def test_a_date_shift_is_caught() -> None:
    generator = Seeds(2).generator()
    inside = generator.random(120) < 0.5
    result = blind_baseline(rows_of(shifted(generator, inside)), inside, seeds=Seeds(1))
    assert result.separates
    assert result.auc > 0.9


def test_a_change_of_subject_that_leaves_letters_as_they_are_needs_words() -> None:
    # Both sides use the same letters: anagrams, which no count of bytes tells apart.
    generator = Seeds(3).generator()
    inside = generator.random(400) < 0.5
    pairs = [("listen", "silent"), ("stale", "least"), ("angel", "glean"), ("later", "alter"), ("below", "elbow")]
    texts = []
    for member in inside:
        words = [pair[int(member == (generator.random() < 0.85))] for pair in generator.permutation(pairs)[:2]]
        texts.append(f"The {generator.choice(NOUNS)} {words[0]} {generator.choice(VERBS)} {words[1]}.")
    data = rows_of(texts)
    result = blind_baseline(data, inside, seeds=Seeds(1))
    assert result.separates
    assert result.classifier.endswith(blind.WORDS)


def test_bytes_alone_do_not_see_that_change(monkeypatch) -> None:
    monkeypatch.setattr(blind, "describe_words", lambda rows, chosen: None)
    with pytest.raises(AssertionError):
        test_a_change_of_subject_that_leaves_letters_as_they_are_needs_words()


@pytest.mark.parametrize("design", ["coins", pytest.param("half", marks=pytest.mark.slow)])
def test_false_alarms_on_texts_keep_to_their_level(monkeypatch, design) -> None:
    # One cheap classifier on both tables; 100 audits: above level + 4 standard errors with probability below 1e-4.
    monkeypatch.setattr(blind, "CLASSIFIERS", {"logistic-regression": blind._logistic})
    generator = Seeds(4).generator()
    p_values = []
    for trial in range(100):
        texts = [sentence(generator, int(generator.integers(2010, 2025))) for _ in range(48)]
        inside = generator.random(48) < 0.5 if design == "coins" else generator.permutation(48) < 24
        p_values.append(blind_baseline(rows_of(texts), inside, seeds=Seeds(trial)).p_value)
    for level in (0.02, 0.1, 0.3):
        assert np.mean(np.array(p_values) <= level) <= level + 4 * np.sqrt(level * (1 - level) / 100)


@pytest.mark.slow
def test_false_alarms_of_the_whole_test_on_texts() -> None:
    generator = Seeds(5).generator()
    p_values = []
    for trial in range(80):
        texts = [sentence(generator, int(generator.integers(2010, 2025))) for _ in range(80)]
        p_values.append(blind_baseline(rows_of(texts), generator.random(80) < 0.5, seeds=Seeds(trial)).p_value)
    for level in (0.02, 0.1, 0.3):
        assert np.mean(np.array(p_values) <= level) <= level + 4 * np.sqrt(level * (1 - level) / 80)


AUDIT = """
[audit]
name = "dates"
seed = 5
access = ["logits"]
[data]
path = "texts.txt"
text_encoding = "bytes"
text_length = 64
[target]
huggingface = "model"
[claim]
epsilon = 1.0
delta = 1e-5
[design]
membership = "membership.csv"
sampling = "coin"
[[attack]]
name = "text-membership"
statistic = "loss"
"""


def audit_of_split(folder, inside: np.ndarray, texts: list[str], monkeypatch) -> dict:
    """A whole audit of an untrained GPT-2 with the given split, as `leakgauge run` conducts it."""
    from leakgauge.trainers.language.model import Size, fresh_model

    model = fresh_model(Size(1, 16, 2), vocabulary=257, length=64, seeds=Seeds(1))
    model.inner.save_pretrained(folder / "model", safe_serialization=True)
    (folder / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    lines = [f"{record},{int(member)}" for record, member in zip(position_ids(len(texts)), inside, strict=True)]
    (folder / "membership.csv").write_text("record,inside\n" + "\n".join(lines) + "\n", encoding="utf-8")
    (folder / "audit.toml").write_text(AUDIT, encoding="utf-8")
    monkeypatch.chdir(folder)
    conduct(folder / "audit.toml", folder / "out", [], device="cpu", quiet=True, command="test")
    return json.loads((folder / "out" / "audit.json").read_text())


def test_a_date_shifted_split_ends_as_broken_whatever_the_attack_finds(tmp_path, monkeypatch) -> None:
    generator = Seeds(6).generator()
    inside = generator.random(120) < 0.5
    document = audit_of_split(tmp_path, inside, shifted(generator, inside), monkeypatch)
    assert document["controls"]["blind"]["passed"] is False
    assert [(f["verdict"], f["reason"]) for f in document["findings"]] == [("underpowered", "split-broken")]


def test_a_random_split_of_the_same_texts_passes(tmp_path, monkeypatch) -> None:
    # The baseline's own alarm rate is 0.001.
    generator = Seeds(6).generator()
    texts = shifted(generator, generator.random(120) < 0.5)
    document = audit_of_split(tmp_path, generator.random(120) < 0.5, texts, monkeypatch)
    assert document["controls"]["blind"]["passed"] is True
    assert document["findings"][0]["reason"] != "split-broken"


@pytest.mark.parametrize("module", [conductor, existing])
def test_no_finding_on_texts_is_made_without_the_baseline(module, tmp_path, monkeypatch) -> None:
    """Both conductors ask the baseline before any finding; where it cannot answer there is no audit at all."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no baseline")

    monkeypatch.setattr(module, "blind_control", refuse)
    monkeypatch.setattr(module, "audit_attack", lambda *_, **__: pytest.fail("a finding without the baseline"))
    generator = Seeds(7).generator()
    if module is existing:
        with pytest.raises(RuntimeError, match="no baseline"):
            audit_of_split(tmp_path, generator.random(60) < 0.5, shifted(generator, np.ones(60)), monkeypatch)
    else:
        toml = '[audit]\nname = "x"\nseed = 1\naccess = ["logits"]\n[data]\nname = "prose-private"\nlimit = 60\n'
        toml += 'text_encoding = "bytes"\ntext_length = 16\n[[trainer]]\nname = "language"\nlength = 16\nepochs = 1\n'
        toml += '[[attack]]\nname = "text-membership"\nstatistic = "loss"\n'
        (tmp_path / "audit.toml").write_text(toml)
        with pytest.raises(RuntimeError, match="no baseline"):
            conduct(tmp_path / "audit.toml", tmp_path / "out", [], device="cpu", quiet=True, command="test")
    assert not (tmp_path / "out" / "audit.json").exists()
