"""Which records stay, their ids, label noise, duplicates and the split; the embedded data sets."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pandas as pd
import pytest

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows
from leakgauge.trainers.data import (
    DataSpec,
    Table,
    Texts,
    duplicate_groups,
    encode,
    load_data,
    load_table,
    position_ids,
    split,
    straddling,
    tabular,
)
from leakgauge.trainers.data.noise import with_label_noise

N = 300


def spec(**keys: object) -> DataSpec:
    return DataSpec(**{"seed": 1, **keys})  # type: ignore[arg-type]


def made(n: int = N, classes: int = 3) -> Table:
    numeric = Seeds(5).generator().normal(size=(n, 2))
    names = tuple(str(c) for c in range(classes))
    return Table("made", tabular(numeric), np.arange(n) % classes, names, position_ids(n))


def third_party(spec: DataSpec) -> Table:
    return made()


def wrong_type(spec: DataSpec) -> int:
    return 3


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("digits", (1797, 1, 8, 8), 10), ("breast-cancer", (569, 30), 2), ("wine", (178, 13), 3)],
)
def test_embedded_data_sets(name, shape, classes):
    data = load_data(spec(name=name))
    assert data.rows.features.shape == shape
    assert data.rows.features.dtype == np.float32
    assert data.rows.classes == len(data.class_names) == classes
    assert data.audit.sum() == round(shape[0] * 2 / 3)
    assert data.warnings == ()
    assert not data.fitted_on_private


def test_digits_are_scikit_learns_divided_by_16():
    from sklearn.datasets import load_digits

    rows = load_data(spec(name="digits")).rows
    np.testing.assert_array_equal(rows.features.reshape(1797, 64), load_digits().data.astype(np.float32) / 16)
    np.testing.assert_array_equal(rows.labels, load_digits().target)


def test_prose_windows_are_the_topics_text():
    from pydoc_data.topics import topics

    table = load_table(spec(name="prose", text_length=100))
    assert isinstance(table.content, Texts)
    assert table.groups is not None
    assert {len(v) for v in table.content.values} == {100}
    start = "".join(v for v, g in zip(table.content.values, table.groups, strict=True) if g == "assert")
    assert topics["assert"].startswith(start)
    assert len(topics["assert"]) - len(start) < 100


def test_third_party_data_by_module_and_by_entry_point(monkeypatch):
    import sys
    import types

    module = types.ModuleType("their_data")
    module.__dict__.update(load=third_party, wrong=wrong_type)
    monkeypatch.setitem(sys.modules, "their_data", module)
    assert load_table(spec(name="their_data:load")).name == "made"
    entry = importlib.metadata.EntryPoint("theirs", "their_data:load", "leakgauge.datasets")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: importlib.metadata.EntryPoints([entry]))
    assert load_table(spec(name="theirs")).name == "made"
    with pytest.raises(ConfigError, match="must return a Table, got int"):
        load_table(spec(name="their_data:wrong"))


def test_label_noise_changes_exactly_the_recorded_labels():
    clean, noisy = load_table(spec(name="digits")), load_table(spec(name="digits", label_noise=0.2))
    changed = np.flatnonzero(clean.labels != noisy.labels)
    assert tuple(clean.records[i] for i in changed) == noisy.noisy
    # Binomial(1797, 0.2): mean 359.4, sd 17; 5 sd fail once in two million seeds, and the seed is fixed.
    assert abs(len(changed) - 359.4) < 85
    assert noisy.labels.min() >= 0
    assert noisy.labels.max() <= 9
    again = load_table(spec(name="digits", label_noise=0.2))
    assert again.noisy == noisy.noisy
    assert load_table(spec(name="digits", label_noise=0.2, seed=2)).noisy != noisy.noisy


def test_label_noise_at_its_ends_and_its_law():
    table = made(30_000, 4)
    assert with_label_noise(table, 0, seeds=Seeds(1)).noisy == ()
    every = with_label_noise(table, 1, seeds=Seeds(1))
    assert (every.labels != table.labels).all()
    assert every.noisy == table.records
    # Shifts 1, 2, 3 equally likely: each count is 10,000 +- 82 (one sd); 5 sd.
    counts = np.bincount((every.labels - table.labels) % 4, minlength=4)
    assert counts[0] == 0
    assert np.abs(counts[1:] - 10_000).max() < 410


def test_label_noise_of_a_record_depends_on_no_other_record():
    table = made()
    whole = dict(zip(table.records, with_label_noise(table, 0.4, seeds=Seeds(1)).labels, strict=True))
    order = Seeds(8).generator().permutation(N)[:100]
    part = with_label_noise(table.take(order), 0.4, seeds=Seeds(1))
    assert {r: whole[r] for r in part.records} == dict(zip(part.records, part.labels, strict=True))


def test_label_noise_needs_labels():
    with pytest.raises(ConfigError, match=r"label_noise = 0.1: data 'prose' has no labels"):
        load_table(spec(name="prose", label_noise=0.1))


def test_limit_and_dropping_never_rename_a_record(tmp_path):
    frame = pd.DataFrame({"v": np.arange(N) + 0.5, "label": np.arange(N) % 2})
    frame.loc[10:40, "v"] = np.nan
    frame.to_csv(tmp_path / "a.csv", index=False)
    path = str(tmp_path / "a.csv")
    tables = [load_table(spec(path=path, missing="drop", limit=k)) for k in (50, 150, None)]
    for table in tables:
        values = table.content.numeric[:, 0]  # type: ignore[union-attr]
        assert [f"row-{int(v - 0.5):06d}" for v in values] == list(table.records)
    assert set(tables[0].records) < set(tables[1].records) < set(tables[2].records)
    assert len(tables[2]) == N - 31
    assert "31 of 300 records with a missing value or label were dropped" in tables[2].warnings
    other = load_table(spec(path=path, missing="drop", limit=50, seed=2))
    assert other.records != tables[0].records


def test_shuffling_a_file_with_ids_changes_no_record_but_the_fingerprint(tmp_path):
    frame = pd.DataFrame({"key": [f"k{i}" for i in range(N)], "v": np.arange(N), "label": np.arange(N) % 3})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "b.csv", index=False)
    a, b = (load_table(spec(path=str(tmp_path / f), id_column="key", label_noise=0.5)) for f in ("a.csv", "b.csv"))
    assert dict(zip(a.records, a.labels, strict=True)) == dict(zip(b.records, b.labels, strict=True))
    assert set(a.noisy) == set(b.noisy)
    assert a.fingerprint() != b.fingerprint()


def test_fingerprint_sees_every_part():
    base = made()
    changed = [
        made().take(np.arange(N)[::-1]),
        Table("other", base.content, base.labels, ("0", "1", "x"), base.records),
        Table("other", base.content, (base.labels + 1) % 3, base.classes, base.records),
        Table("other", base.content, base.labels, base.classes, position_ids(N, "a")),
        Table("other", base.content, base.labels, base.classes, base.records, groups=("g",) * N),
        Table("other", tabular(base.content.numeric * 2), base.labels, base.classes, base.records),  # type: ignore[union-attr]
        Table("other", tabular(base.content.numeric, ["p", "q"]), base.labels, base.classes, base.records),  # type: ignore[union-attr]
    ]
    prints = {t.fingerprint() for t in (base, *changed)}
    assert len(prints) == len(changed) + 1
    assert Table("renamed", base.content, base.labels, base.classes, base.records).fingerprint() == base.fingerprint()


def with_duplicates() -> Table:
    """Group sizes 1 to 6, scattered; the oracle is the value in the first column."""
    values = np.repeat(np.arange(90), np.arange(90) % 6 + 1).astype(float)
    values = Seeds(11).generator().permutation(values)
    numeric = np.stack([values, -values], axis=1)
    numeric[values == 0] *= Seeds(12).generator().choice([-1.0, 1.0], (int((values == 0).sum()), 1))  # 0.0 and -0.0
    n = len(values)
    return Table("twins", tabular(numeric), np.arange(n) % 2, ("0", "1"), position_ids(n))


def test_duplicate_groups_agree_with_numpy_unique():
    table = with_duplicates()
    values = np.abs(table.content.numeric[:, 0])  # type: ignore[union-attr]
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(duplicate_groups(table), first[inverse])
    rows = Rows(table.content.numeric.astype(np.float32), table.labels, table.records, 2)  # type: ignore[union-attr]
    np.testing.assert_array_equal(duplicate_groups(rows), first[inverse])


def test_straddling_pairs():
    groups = np.array([0, 1, 0, 3, 3, 1])
    inside = np.array([True, True, False, False, False, True])
    assert straddling(groups, inside).tolist() == [True, False, True, False, False, False]


@pytest.mark.parametrize("wanted", [None, 20, 100, 200])
def test_split_is_exact_random_and_keeps_duplicates_together(wanted):
    table = with_duplicates()
    groups = duplicate_groups(table)
    audit = split(table, wanted, seeds=Seeds(3))
    assert audit.sum() == (round(len(table) * 2 / 3) if wanted is None else wanted)
    assert not straddling(groups, audit).any()
    np.testing.assert_array_equal(audit, split(table, wanted, seeds=Seeds(3)))
    assert (audit != split(table, wanted, seeds=Seeds(4))).any()


def test_split_is_uniform():
    table = made(30)
    share = np.mean([split(table, 20, seeds=Seeds(s)) for s in range(600)], axis=0)
    # Each share has sd 0.0192; 30 records at 4.5 sd: fails for 2 in 10,000 choices of seeds, and these are fixed.
    assert np.abs(share - 2 / 3).max() < 4.5 * np.sqrt(2 / 9 / 600)


def test_split_refuses_more_than_there_is():
    with pytest.raises(ConfigError, match=r"design.audit_records must lie in \[1, 300\].*got 301"):
        split(made(), 301, seeds=Seeds(1))


def test_load_data_is_the_two_steps(tmp_path):
    given = spec(name="wine", label_noise=0.1)
    data, table = load_data(given, 100), load_table(given)
    audit = split(table, 100, seeds=Seeds(1))
    np.testing.assert_array_equal(data.audit, audit)
    assert data.rows.fingerprint() == encode(table, ~audit, given).rows.fingerprint()
    assert data.fingerprint == table.fingerprint()
    assert data.noisy == table.noisy


def test_float_labels_with_a_gap_keep_their_names(tmp_path):
    labels = np.arange(N) % 2 + 1.0
    labels[4] = np.nan
    pd.DataFrame({"v": np.arange(N), "label": labels}).to_parquet(tmp_path / "a.parquet")
    table = load_table(spec(path=str(tmp_path / "a.parquet"), missing="drop"))
    assert table.classes == ("1", "2")
    assert len(table) == N - 1
    assert (table.labels == [int(r[4:]) % 2 for r in table.records]).all()
