"""Every mistake is one line that names the thing; damaged files never end in a traceback; the report's warnings."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from leakgauge.audit.errors import ConfigError, LeakGaugeError
from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.data import DataSpec, Images, Table, load_table, position_ids, tabular
from leakgauge.trainers.data.checks import checked
from leakgauge.trainers.data.frames import frame_table

N = 40


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"v": np.arange(N) + 0.5, "label": np.arange(N) % 2} | columns)


def csv(root: Path, **columns: Any) -> str:
    frame(**columns).to_csv(root / "a.csv", index=False)
    return str(root / "a.csv")


def raw(root: Path, content: str | bytes, name: str = "a.csv") -> str:
    (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(root / name)


def parquet(root: Path, **columns: Any) -> str:
    frame(**columns).to_parquet(root / "a.parquet")
    return str(root / "a.parquet")


def npz(root: Path, **arrays: Any) -> str:
    np.savez(root / "a.npz", **({"x": np.ones((N, 2)), "y": np.arange(N) % 2} | arrays))
    return str(root / "a.npz")


def without_y(root: Path) -> str:
    np.savez(root / "a.npz", x=np.ones((N, 2)))
    return str(root / "a.npz")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def folder(root: Path, odd: Any) -> str:
    for i in range(N):
        place = root / "images" / str(i % 2)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(place / f"{i:02d}.png")
    odd(root / "images" / "1" / "99.png")
    return str(root / "images")


def gap(position: int) -> np.ndarray:
    values = np.arange(N) + 0.5
    values[position] = np.nan
    return values


NO = "'no', 'yes'"
FILES: dict[str, tuple[Callable[[Path], str], dict[str, Any], str]] = {
    "missing file": (lambda d: str(d / "b.csv"), {}, r"no such file or folder '.*b.csv'; paths start at"),
    "suffix": (lambda d: raw(d, "x", "a.dat"), {}, r"unknown suffix '.dat'; give data.format, one of csv, tsv"),
    "empty csv": (lambda d: raw(d, ""), {}, r"a.csv: not a readable table"),
    "long row": (lambda d: raw(d, "v,label\n" + "1,0,9\n" * N), {}, r"a.csv: not a readable table"),
    "latin-1": (lambda d: raw(d, b"v,label\n\xe9,1\n"), {}, r"a.csv: not UTF-8 at byte"),
    "target": (csv, {"target": "lable"}, r"data.target: .*a.csv has no column 'lable'; did you mean 'label'\?"),
    "no target": (lambda d: raw(d, "v,w\n1,2\n"), {}, r"no column is called 'label'; give data.target, one of v, w"),
    "drop": (csv, {"drop": ["w"]}, r"data.drop: .* has no column 'w'"),
    "nothing left": (csv, {"drop": ["v"]}, r"a.csv: no feature column is left besides label, v"),
    "missing value": (
        lambda d: csv(d, v=gap(7)),
        {},
        r"column 'v' of record row-000007 is missing \(1 records in all\); set data.missing = 'drop' or 'category'",
    ),
    "missing label": (
        lambda d: csv(d, label=[None, *["a", "b"] * 19, "a"]),
        {"missing": "category"},
        r"the label of record row-000000 is missing \(1 in all\); set data.missing = 'drop'",
    ),
    "infinite": (lambda d: csv(d, v=[np.inf] + [1.0] * (N - 1)), {}, r"column 'v' of record row-000000 is inf"),
    "class": (
        lambda d: csv(d, label=["no", "yep"] * 20),
        {"classes": ["no", "yes"]},
        r"label 'yep' of record row-000001 is not in data.classes; did you mean 'yes'\?",
    ),
    "regression": (
        lambda d: csv(d, label=np.arange(N) * 1.5),
        {"target": "label"},
        r"40 distinct values in 40 rows is no class label",
    ),
    "regression in parquet": (
        lambda d: parquet(d, label=np.arange(N) * 1.5),
        {},
        r"label 1.5 of record row-000001 is no class: labels are whole numbers",
    ),
    "one class": (lambda d: csv(d, label=["yes"] * N), {}, r"all 40 rows are of class 'yes'; at least 2 classes"),
    "few rows": (csv, {"limit": 19}, r"data 'a': 19 rows are too few, at least 20 are needed"),
    "id twice": (
        lambda d: csv(d, id=["a", "b"] * 20),
        {"id_column": "id"},
        r"data 'a': record id 'a' occurs more than once",
    ),
    "id empty": (lambda d: csv(d, id=["a", None] * 20), {"id_column": "id"}, r"id column 'id' is empty in row 1"),
    "dates": (
        lambda d: parquet(d, day=pd.date_range("2026-01-01", periods=N)),
        {},
        r"column 'day' holds dates; drop it",
    ),
    "lists": (lambda d: parquet(d, tags=[[1, 2]] * N), {}, r"column 'tags' holds ndarray values; drop it or flatten"),
    "bad parquet": (lambda d: raw(d, "PAR1 no", "a.parquet"), {}, r"a.parquet: not a readable parquet file"),
    "npz keys": (without_y, {}, r"no array 'y' \(found x\); save it with numpy.savez"),
    "npz length": (lambda d: npz(d, y=np.arange(3)), {}, r"y has shape \(3,\) for 40 records"),
    "npz objects": (lambda d: npz(d, y=np.array([{}] * N)), {}, r"not a readable npz of plain arrays"),
    "npz text": (lambda d: npz(d, x=np.full((N, 2), "a")), {}, r"features have type <U1, expected numbers"),
    "npz int images": (lambda d: npz(d, x=np.ones((N, 2, 2), int)), {}, r"images of type int64; save uint8"),
    "npz channels": (lambda d: npz(d, x=np.ones((N, 5, 4, 5))), {}, r"no axis of 1, 3 or 4 channels"),
    "npz rank": (lambda d: npz(d, x=np.ones(N)), {}, r"features have shape \(40,\)"),
    "npz NaN pixel": (
        lambda d: npz(d, x=np.where(np.arange(N * 4) == 9, np.nan, 1.0).reshape(N, 2, 2)),
        {},
        r"column 'pixel 1' of record row-000002 is nan",
    ),
    "npz resize": (lambda d: npz(d, x=np.ones((N, 2, 2))), {"image_size": 3}, r"in float64 cannot be resized"),
    "idx magic": (lambda d: raw(d, b"\1\2\3\4", "a-idx3-ubyte"), {}, r"not an idx file \(starts with 01020304"),
    "idx cut": (
        lambda d: (
            raw(d, idx(np.ones((N, 2, 2)))[:-1], "images-idx3-ubyte")
            and raw(d, b"", "labels-idx1-ubyte")
            and str(d / "images-idx3-ubyte")
        ),
        {},
        r"idx of shape \(40, 2, 2\) needs 176 bytes, got 175; fetch it again",
    ),
    "idx gzip": (lambda d: raw(d, gzip.compress(b"x" * 99)[:-9], "a-idx3-ubyte.gz"), {}, r"damaged gzip file"),
    "idx labels": (lambda d: raw(d, idx(np.ones((N, 2))), "a.idx"), {}, r"no label file found; give data.labels"),
    "idx label count": (
        lambda d: raw(d, idx(np.ones((N, 2))), "images") and raw(d, idx(np.ones(3)), "labels") and str(d / "images"),
        {"format": "idx"},
        r"labels: labels of shape \(3,\) for 40 records in images",
    ),
    "no images": (lambda d: str(d), {}, r"no images in subfolders; expected class/file"),
    "broken image": (lambda d: folder(d, lambda p: p.write_bytes(b"x")), {}, r"99.png: not a readable image"),
    "image size": (
        lambda d: folder(d, Image.fromarray(np.zeros((4, 5), np.uint8)).save),
        {},
        r"99.png: image is \(4, 5\), the first is \(4, 4\); give data.image_size",
    ),
    "16 bits": (
        lambda d: folder(d, Image.fromarray(np.zeros((4, 4), np.uint16)).save),
        {},
        r"99.png: I;16 pixels have more than 8 bits",
    ),
    "some tabs": (lambda d: raw(d, "a\tb\nc\n", "a.txt"), {}, r"1 of 2 lines have a tab \(line 2 has none\)"),
    "unused key": (csv, {"labels": "x.idx"}, r"no such file or folder 'x.idx'"),
    "unused key of format": (npz, {"target": "y"}, r"data.target = 'y' does not apply to format 'npz'; leave it out"),
    "unused split": (csv, {"split": "test"}, r"data.split = 'test' does not apply to format 'csv'"),
    "hub file type": (lambda d: "", {"hub": __file__}, r"unknown file type '.py'"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_cannot_be_used(tmp_path, case):
    make, keys, message = FILES[case]
    path = make(tmp_path)
    source = {"path": path} if path else {}
    with pytest.raises(LeakGaugeError, match=message) as caught:
        load_table(DataSpec(seed=1, **source, **keys))
    assert "\n" not in str(caught.value)


KEYS: list[tuple[dict[str, Any], str]] = [
    ({}, "give exactly one of name, path, hub; got none"),
    ({"name": "digits", "path": "x"}, "give exactly one of name, path, hub; got name, path"),
    ({"nane": "digits"}, r"unknown key 'data.nane'; did you mean 'name'"),
    ({"name": 3}, "data.name: expected text, got 3"),
    ({"path": ["a", 3]}, r"data.path: expected a name or a list of names, got \('a', 3\)"),
    ({"name": "digits", "limit": 0}, "data.limit must be at least 1, got 0"),
    ({"name": "digits", "limit": True}, "data.limit: expected a whole number, got True"),
    ({"name": "digits", "label_noise": 1.5}, r"data.label_noise must lie in \[0, 1\], got 1.5"),
    ({"name": "digits", "label_noise": float("nan")}, "data.label_noise: expected a number, got nan"),
    (
        {"name": "digits", "missing": "ignore"},
        "data.missing: unknown value 'ignore'; choose from drop, error, category",
    ),
    ({"name": "digits", "preprocessing_fit": "private"}, "data.preprocessing_fit: .*choose from public, all, none"),
    ({"name": "digits", "format": "cvs"}, "data.format: unknown value 'cvs'; did you mean 'csv'"),
    ({"name": "digits", "image_size": [0, 3]}, r"data.image_size must be at least 1, got \(0, 3\)"),
    ({"name": "digits", "image_size": [1, 2, 3]}, r"data.image_size: expected a whole number or \[height, width\]"),
    ({"name": "digits", "classes": ["a", "a"]}, "data.classes: 'a' is given twice"),
    ({"name": "digits", "comment": "//"}, "data.comment must be one character, got '//'"),
    ({"hub": "org/name"}, "data.hub 'org/name' needs data.revision, the commit to read"),
    ({"hub": "org/name", "revision": "main"}, "data.revision 'main' is a moving branch"),
]


@pytest.mark.parametrize(("keys", "message"), KEYS)
def test_keys_that_cannot_be_used(keys, message):
    with pytest.raises(ConfigError, match=message) as caught:
        DataSpec.of(keys, seed=1)
    assert "\n" not in str(caught.value)


def test_spec_takes_toml_lists_and_stays_hashable():
    spec = DataSpec.of({"path": ["a.csv", "b.csv"], "drop": ["x"], "image_size": [2, 3]}, seed=4)
    assert spec.path == ("a.csv", "b.csv")
    assert isinstance(hash(spec), int)
    assert spec.seed == 4


def test_built_in_data_refuse_what_does_not_apply():
    with pytest.raises(ConfigError, match=r"data.target = 'x' does not apply to the data set 'wine'"):
        load_table(DataSpec(seed=1, name="wine", target="x"))


def refusal(spec: DataSpec) -> str | None:
    """The message of our error, None where the table loads; any other exception escapes."""
    try:
        load_table(spec)
    except LeakGaugeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "npz", "idx", "txt"])
def test_damaged_files_give_one_line_or_load(tmp_path, suffix):
    """Whole files cut short or with bytes replaced: an error of ours in one line, or a table, never anything else."""
    good = tmp_path / f"good.{suffix}"
    labels = raw(tmp_path, idx(np.arange(N) % 2), "labels.idx")
    writers = {
        "csv": lambda: frame().to_csv(good, index=False),
        "tsv": lambda: frame().to_csv(good, index=False, sep="\t"),
        "parquet": lambda: frame().to_parquet(good),
        "npz": lambda: np.savez(good, x=np.ones((N, 2)), y=np.arange(N) % 2),
        "idx": lambda: good.write_bytes(idx(np.ones((N, 2)))),
        "txt": lambda: good.write_text("a\tb c\nb\tc d\n" * 20),
    }
    writers[suffix]()
    whole, rng, loaded = good.read_bytes(), Seeds(2).generator(), 0
    extra = {"labels": labels} if suffix == "idx" else {}
    load_table(DataSpec(seed=1, path=str(good), **extra))
    for trial in range(40):
        data = np.frombuffer(whole, np.uint8).copy()
        data[rng.integers(0, len(data), 5)] = rng.integers(0, 256, 5)
        bad = tmp_path / f"bad{trial}.{suffix}"
        bad.write_bytes(data.tobytes()[: int(rng.integers(0, len(data) + 1))] if trial % 2 else data.tobytes())
        message = refusal(DataSpec(seed=1, path=str(bad), missing="drop", **extra))
        loaded += message is None
        assert "\n" not in (message or "")
    assert loaded < 40


def test_warnings_count_and_never_name_a_record(tmp_path):
    values = np.arange(N, dtype=float)
    values[:4] = 0
    path = csv(
        tmp_path,
        v=values,
        id=[f"person{i}" for i in range(N)],
        same=[3] * N,
        word=["x"] * N,
        almost=[*map(str, range(N - 1)), "oops"],
        label=["rare", *["often"] * (N - 1)],
    )
    table = load_table(DataSpec(seed=1, path=path, id_column="id", drop=("almost",)))
    text = " | ".join(table.warnings)
    assert "4 records have the same features as another (groups: 1; records in groups whose labels differ: 4)" in text
    assert "the largest group of identical records is 4 of 40" in text
    assert "2 columns have one value only: 'same', 'word'" in text
    assert "classes are unbalanced: 'rare' has 1 records, 'often' has 39" in text
    typo = load_table(DataSpec(seed=1, path=path, id_column="id"))
    assert "column 'almost': 1 of 40 values are no numbers; taken as categories" in typo.warnings
    assert "person" not in text + " | ".join(typo.warnings)


def test_warning_of_an_identifier_among_the_features(tmp_path):
    n = 250
    data = pd.DataFrame({"name": [f"n{i}" for i in range(n)], "label": np.arange(n) % 2})
    data.to_csv(tmp_path / "a.csv", index=False)
    assert any(
        "column 'name' has 250 categories" in w
        for w in load_table(DataSpec(seed=1, path=str(tmp_path / "a.csv"))).warnings
    )


def test_classes_without_records_and_labels_out_of_range(tmp_path):
    table = load_table(DataSpec(seed=1, path=csv(tmp_path), classes=("1", "0", "2")))
    assert table.classes == ("1", "0", "2")
    assert (table.labels == 1 - np.arange(N) % 2).all()
    assert "1 of 3 classes have no record (first: '2')" in table.warnings
    for bad in (-1, 2):
        labels = np.arange(N) % 2
        labels[5] = bad
        made = Table("made", tabular(np.ones((N, 1))), labels, ("a", "b"), position_ids(N))
        with pytest.raises(ConfigError, match=rf"label {bad} of record row-000005 is outside \[0, 2\)"):
            checked(made)


def test_clean_data_give_no_warning():
    numeric = Seeds(1).generator().normal(size=(N, 2))
    assert checked(Table("m", tabular(numeric), np.arange(N) % 2, ("a", "b"), position_ids(N))).warnings == ()
    pixels = Seeds(1).generator().integers(0, 9, (N, 1, 4, 4), dtype=np.uint8)
    assert checked(Table("m", Images(pixels, 9.0), np.arange(N) % 2, ("a", "b"), position_ids(N))).warnings == ()


def test_two_columns_of_one_name():
    made = frame(w=0)
    made.columns = pd.Index(["v", "label", "v"])
    with pytest.raises(ConfigError, match="there: two columns are called 'v'; rename one"):
        frame_table(made, "made", DataSpec(seed=1, path="there"), where="there")
