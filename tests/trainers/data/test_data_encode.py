"""Encoding: only population rows shape it (shown by interference), scikit-learn as the oracle, text without fitting."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.data import DataSpec, Images, Table, Tabular, Texts, encode, position_ids
from leakgauge.trainers.data.text import PADDING, bag_of_words, byte_tokens

N = 60
POPULATION = np.arange(N) % 3 == 0


def spec(**keys: object) -> DataSpec:
    return DataSpec(seed=1, name="made", **keys)  # type: ignore[arg-type]


def table(gaps: bool = True) -> Table:
    rng = Seeds(3).generator()
    numeric = rng.normal(size=(N, 3)) * [1, 1e4, 0] + [0, 5e4, 7]
    codes = rng.integers(0, 4, (N, 2)).astype(np.int32)
    codes[POPULATION & (codes[:, 0] == 3), 0] = 0  # level 3 of the first column is unknown to the population
    codes[1, 0] = 3
    if gaps:
        numeric[[0, 1], 0] = np.nan
        codes[[3, 4], 1] = -1
    content = Tabular(numeric, ("a", "b", "c"), codes, ("x", "y"), (tuple("pqrs"), tuple("klmn")))
    return Table("made", content, np.arange(N) % 2, ("0", "1"), position_ids(N))


def test_agrees_with_scikit_learn_fitted_on_the_population():
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    made = table(gaps=False)
    assert isinstance(made.content, Tabular)
    out = encode(made, POPULATION, spec())
    scaler = StandardScaler().fit(made.content.numeric[POPULATION])
    vocabulary = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(made.content.codes[POPULATION])
    expected = np.hstack([scaler.transform(made.content.numeric), vocabulary.transform(made.content.codes)])
    np.testing.assert_allclose(out.rows.features, expected, rtol=1e-5, atol=1e-6)
    assert out.rows.features.dtype == np.float32
    assert not out.fitted_on_private
    assert out.feature_names == ("a", "b", "c", "x=p", "x=q", "x=r", "y=k", "y=l", "y=m", "y=n")
    assert any("unknown to the population" in w for w in out.warnings)


@pytest.mark.parametrize("fit", ["public", "none", "all"])
def test_one_private_record_changes_no_other_record_unless_fitted_on_all(fit):
    made = table()
    assert isinstance(made.content, Tabular)
    numeric, codes = made.content.numeric.copy(), made.content.codes.copy()
    numeric[2], codes[2] = [1e6, np.nan, -3], [3, -1]
    assert not POPULATION[2]
    changed = dataclasses.replace(made, content=dataclasses.replace(made.content, numeric=numeric, codes=codes))
    given = spec(preprocessing_fit=fit, missing="category")
    before, after = (encode(t, POPULATION, given) for t in (made, changed))
    others = np.arange(N) != 2
    if fit == "all":
        assert before.fitted_on_private
        assert before.rows.features.shape != after.rows.features.shape or not np.array_equal(
            before.rows.features[others], after.rows.features[others]
        )
    else:
        assert not before.fitted_on_private
        assert before.feature_names == after.feature_names
        np.testing.assert_array_equal(before.rows.features[others], after.rows.features[others])
        assert not np.array_equal(before.rows.features[2], after.rows.features[2])


def test_dropping_private_records_changes_no_other_record():
    made, keep = table(), np.flatnonzero(POPULATION | (np.arange(N) % 2 == 0))
    whole = encode(made, POPULATION, spec(missing="category")).rows
    part = encode(made.take(keep), POPULATION[keep], spec(missing="category")).rows
    np.testing.assert_array_equal(part.features, whole.features[keep])
    assert part.records == tuple(whole.records[i] for i in keep)


def test_missing_values_are_the_mean_with_a_flag_where_the_population_has_some():
    out = encode(table(), POPULATION, spec(missing="category"))
    column = {name: out.rows.features[:, i] for i, name in enumerate(out.feature_names)}
    assert column["a"][0] == column["a"][1] == 0
    np.testing.assert_array_equal(np.flatnonzero(column["a=missing"]), [0, 1])
    assert "b=missing" not in column
    np.testing.assert_array_equal(np.flatnonzero(column["y=missing"]), [3, 4])
    assert abs(column["a"][POPULATION].mean()) < 1e-6
    assert (column["c"] == 0).all()  # constant: centred, not blown up


def test_fitting_on_all_rows_is_private_only_if_some_row_is_and_something_is_fitted():
    assert encode(table(), POPULATION, spec(preprocessing_fit="all")).fitted_on_private
    assert not encode(table(), np.ones(N, bool), spec(preprocessing_fit="all")).fitted_on_private
    images = Table("i", Images(np.zeros((N, 1, 2, 2), np.uint8), 16.0), np.arange(N) % 2, ("0", "1"), position_ids(N))
    assert not encode(images, POPULATION, spec(preprocessing_fit="all")).fitted_on_private


def test_no_population_and_wrong_population_are_refused():
    with pytest.raises(ConfigError, match="no population rows to fit the scaler on"):
        encode(table(), np.zeros(N, bool), spec())
    with pytest.raises(ConfigError, match=r"population has shape \(3,\) for 60 rows"):
        encode(table(), np.zeros(3, bool), spec())
    encode(table(), np.zeros(N, bool), spec(preprocessing_fit="none"))


def test_values_beyond_float32_name_column_and_record():
    made = table(gaps=False)
    assert isinstance(made.content, Tabular)
    made.content.numeric[7, 1] = 1e300
    with pytest.raises(ConfigError, match="column 'b' of record row-000007 is inf as float32"):
        encode(made, POPULATION, spec())


def test_bag_of_words_depends_on_the_text_alone():
    texts = ["The cat sat on the mat", "the CAT, sat on: the mat!", "", "dog"]
    out = bag_of_words(texts, 4096)
    np.testing.assert_array_equal(out[0], out[1])
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), [1, 1, 0, 1], rtol=1e-6)
    np.testing.assert_array_equal(bag_of_words(texts[3:], 4096)[0], out[3])
    counts = np.sort(np.abs(out[0][out[0] != 0]))
    np.testing.assert_allclose(counts, np.array([1, 1, 1, 1, 2]) / np.sqrt(8), rtol=1e-6)
    assert bag_of_words(["a b c d e f g h"], 2).shape == (1, 2)


def test_bag_of_words_separates_classes_of_real_words():
    from sklearn.linear_model import LogisticRegression

    rng = Seeds(9).generator()
    words = [f"w{i}" for i in range(200)]
    texts = [" ".join(rng.choice(words[:120] if i % 2 else words[80:], 30)) for i in range(200)]
    features, labels = bag_of_words(texts, 512), np.arange(200) % 2
    model = LogisticRegression(C=10).fit(features[:150], labels[:150])
    assert model.score(features[150:], labels[150:]) > 0.9


def test_byte_tokens_cut_and_pad():
    out = byte_tokens(["abc", "é" * 5, ""], 4)
    assert out.tolist() == [[97, 98, 99, PADDING], [0xC3, 0xA9, 0xC3, 0xA9], [PADDING] * 4]


def test_text_without_labels_needs_bytes():
    texts = Table("t", Texts(("a",) * N), np.zeros(N, np.int64), ("(unlabelled)",), position_ids(N))
    assert encode(texts, POPULATION, spec(text_length=3)).rows.features.shape == (N, 3)
    with pytest.raises(ConfigError, match="text_encoding = 'bytes'"):
        encode(texts, POPULATION, spec(text_encoding="bag-of-words"))
    labelled = Table("t", Texts(("a",) * N), np.arange(N) % 2, ("0", "1"), position_ids(N))
    assert encode(labelled, POPULATION, spec(text_buckets=9)).rows.features.shape == (N, 9)
    assert encode(labelled, POPULATION, spec(text_encoding="bytes")).rows.features.dtype == np.int64
