from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.types import Access, Validity, Verdict
from leakgauge.audit.verdict import REASONS
from leakgauge.reports.control_maps import FOLDER, load_control_maps
from leakgauge.reports.masking import HIDDEN, hide
from leakgauge.reports.texts import languages, load_texts, placeholders, read_catalogue

SOURCE = Path(__import__("leakgauge.reports", fromlist=["x"]).__file__).parent


def test_every_key_in_the_code_is_in_the_catalogue() -> None:
    english = read_catalogue("en")
    code = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    used = re.findall(r"texts(?:\.many|\.find)?\(\s*\"([^\"{}]+)\"", code)
    assert len(used) > 100
    assert not [key for key in used if key not in english]


def test_every_word_of_the_vocabulary_has_its_sentences() -> None:
    texts = load_texts("en")
    for verdict in Verdict:
        assert texts(f"verdict.{verdict}.label")
        assert texts.many(f"verdict.{verdict}.meaning")
        assert texts.many(f"verdict.{verdict}.next")
        assert "sentence" in "".join(key for key in texts.sentences if key.startswith(f"verdict.{verdict}."))
        assert texts.find(f"why.{verdict}")
        assert texts.find(f"why.{verdict}_figures")
    assert all(texts.find(f"access.{name}.meaning") for name in Access.names(~Access(0)))
    assert all(texts.find(f"validity.{validity}") for validity in Validity)
    assert not [reason for reason in REASONS if texts.find(f"reason.{reason}") is None]


@pytest.mark.parametrize("language", [name for name in languages() if name != "en"])
def test_a_translation_has_every_key_and_placeholder(language: str) -> None:
    english, other = read_catalogue("en"), read_catalogue(language)
    assert sorted(other) == sorted(english)
    for key, text in english.items():
        translated = other[key]
        if isinstance(text, list):
            assert isinstance(translated, list), key
            assert not key.endswith("columns") or len(translated) == len(text), key
        else:
            assert isinstance(translated, str), key
            assert placeholders(translated) <= placeholders(text), key
            assert placeholders(translated) == placeholders(text) or key == "meaning.attack", key


def test_unknown_language_is_refused() -> None:
    with pytest.raises(ConfigError, match="'klingon'"):
        load_texts("klingon")


def test_control_maps_are_evidence_and_never_compliance() -> None:
    maps = load_control_maps()
    assert {m.id for m in maps} >= {
        "edpb-opinion-28-2024",
        "ico-ai-guidance",
        "nist-sp-800-226",
        "nist-ai-rmf",
        "eu-ai-act-art-15",
        "iso-iec-42001",
    }
    assert all(row.rules or row.sections for m in maps for row in m.rows)
    # A checked row says what it quotes and where that was read; nothing else is called checked.
    checked = [row for m in maps for row in m.rows if row.checked]
    assert checked
    assert all(row.quote and row.compared_with for row in checked)
    assert len(checked) < sum(len(m.rows) for m in maps)
    assert not any(re.search(r"compl(y|iant)", path.read_text(), re.IGNORECASE) for path in FOLDER.glob("*.toml"))


MAP = "id = 'x'\ntitle = 'x'\nurl = 'https://x'\n"


@pytest.mark.parametrize(
    "text",
    [
        "id = 1",
        "id = 'x'\ntitle = 'x'\nurl = 'http://x'\nrows = []",
        "not toml",
        MAP + "[[rows]]\nreference = 'a'\nasks = 'b'\nchecked = true",
    ],
)
def test_a_broken_control_map_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        load_control_maps(tmp_path)


def test_hiding() -> None:
    evidence: dict[str, Any] = {
        "records": ["a", "b"],
        "record": 3,
        "method": "one-run",
        "anything": "jane",
        "numbers": [1, 2],
        "scores": list(range(100)),
        "image": [[0, 1]],
        "nested": {"text": "jane", "count": 2, "deep": [{"who": "jane"}]},
    }
    seen = hide(evidence, reveal=False, free_text=False)
    assert "jane" not in str(seen)
    assert seen["record"] == 3
    assert seen["method"] == "one-run"
    assert seen["numbers"] == [1, 2]
    assert seen["records"] == seen["image"] == HIDDEN
    assert seen["scores"] == "[100 values hidden]"
    assert seen["nested"]["count"] == 2
    assert hide(evidence, reveal=True) == evidence
