"""Every format written to disk and read back; several files joined; Hugging Face data sets from local folders."""

from __future__ import annotations

import gzip
import struct
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from leakgauge.audit.errors import ConfigError, PrerequisiteError
from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.data import DataSpec, Images, Table, Tabular, Texts, encode, load_data, load_table

N = 30


def spec(**keys: object) -> DataSpec:
    return DataSpec(seed=1, **keys)  # type: ignore[arg-type]


def frame() -> pd.DataFrame:
    rng = Seeds(0).generator()
    return pd.DataFrame(
        {
            "id": [f"{i:03d}" for i in range(N)],
            "user": [f"u{i % 5}" for i in range(N)],
            "age": rng.normal(size=N),
            "job": ["clerk", "smith", "NA-job"] * (N // 3),
            "label": ["no", "yes"] * (N // 2),
        }
    )


def write_idx(path: Path, array: np.ndarray, zipped: bool) -> None:
    codes = {"uint8": 0x08, "float32": 0x0D, "int32": 0x0C}
    head = struct.pack(">BBBB", 0, 0, codes[array.dtype.name], array.ndim) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    data = head + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(data) if zipped else data)


def tabular(table: Table) -> Tabular:
    assert isinstance(table.content, Tabular)
    return table.content


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_frame_formats_round_trip(tmp_path, suffix):
    data, path = frame(), tmp_path / f"people.{suffix}"
    if suffix == "parquet":
        data.to_parquet(path)
    else:
        data.to_csv(path, index=False, sep="," if suffix == "csv" else "\t")
    table = load_table(spec(path=str(path), id_column="id", group_column="user"))
    content = tabular(table)
    assert table.records == tuple(data["id"])  # leading zeros kept
    assert table.groups == tuple(data["user"])
    assert table.classes == ("no", "yes")
    assert [table.classes[i] for i in table.labels] == list(data["label"])
    assert content.numeric_names == ("age",)
    np.testing.assert_allclose(content.numeric[:, 0], data["age"], rtol=1e-15)
    assert [content.levels[0][c] for c in content.codes[:, 0]] == list(data["job"])


def test_parquet_decimals_and_booleans_are_numbers(tmp_path):
    exact = [Decimal(i) / 4 for i in range(N - 1)]
    data = pd.DataFrame({"d": [None, *exact], "b": [True, False] * (N // 2), "label": [0, 1] * (N // 2)})
    data.to_parquet(tmp_path / "a.parquet")
    content = tabular(load_table(spec(path=str(tmp_path / "a.parquet"), missing="category")))
    assert content.numeric_names == ("d", "b")
    np.testing.assert_array_equal(content.numeric[1:, 0], np.arange(N - 1) / 4)
    assert np.isnan(content.numeric[0, 0])
    assert set(content.numeric[:, 1]) == {0, 1}


def test_frame_formats_agree_on_the_fingerprint(tmp_path):
    data = frame()
    data.to_csv(tmp_path / "a.csv", index=False)
    data.to_csv(tmp_path / "b.tsv", index=False, sep="\t")
    data.to_parquet(tmp_path / "c.parquet")
    prints = {
        load_table(spec(path=str(p), id_column="id", group_column="user")).fingerprint()
        for p in sorted(tmp_path.iterdir())
    }
    assert len(prints) == 1


def test_csv_without_header_blanks_comment_and_label_strip(tmp_path):
    rows = "".join(f"{20 + i}, {'a' if i % 2 else '?'}, {'>5.' if i % 3 else '<=5'}\n" for i in range(N))
    (tmp_path / "adult.test").write_text("|1x3 Cross validator\n" + rows + "\n")
    table = load_table(
        spec(
            path=str(tmp_path / "adult.test"),
            format="csv",
            columns=["age", "job", "income"],
            target="income",
            comment="|",
            label_strip=".",
            missing="category",
        )
    )
    assert table.classes == ("<=5", ">5")
    assert table.records[0] == "row-000000"
    assert tabular(table).levels == (("a",),)
    assert (tabular(table).codes[:, 0] == np.array([-1, 0] * (N // 2))).all()
    assert any("15 of 30 records have a missing value" in w for w in table.warnings)


def test_npz_tabular_ids_and_groups(tmp_path):
    x = Seeds(1).generator().normal(size=(N, 3))
    y = np.arange(N) % 3 + 5
    np.savez(tmp_path / "a.npz", x=x, y=y, ids=np.arange(N) + 100, groups=np.arange(N) // 2)
    table = load_table(spec(path=str(tmp_path / "a.npz")))
    np.testing.assert_array_equal(tabular(table).numeric, x)
    assert table.classes == ("5", "6", "7")
    assert (table.labels == y - 5).all()
    assert table.records[3] == "103"
    assert table.groups is not None
    assert table.groups[3] == "1"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((N, 6, 5), (N, 1, 6, 5)), ((N, 3, 6, 5), (N, 3, 6, 5)), ((N, 6, 5, 3), (N, 3, 6, 5))],
)
def test_npz_images_are_divided_by_255(tmp_path, shape, expected):
    x = Seeds(2).generator().integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(N) % 2)
    given = spec(path=str(tmp_path / "a.npz"))
    table = load_table(given)
    rows = encode(table, np.zeros(N, bool), given).rows
    assert rows.features.shape == expected
    assert rows.features.dtype == np.float32
    first = x[0] if len(shape) == 3 else (x[0] if shape[1] == 3 else x[0].transpose(2, 0, 1))
    np.testing.assert_array_equal(rows.features[0].reshape(first.shape), (first / np.float32(255)).astype(np.float32))


def test_npz_float_and_bool_images_are_taken_as_scaled(tmp_path):
    x = Seeds(3).generator().random((N, 4, 4)).astype(np.float32)
    for name, array in (("float", x), ("bool", x > 0.5)):
        np.savez(tmp_path / f"{name}.npz", x=array, y=np.arange(N) % 2)
        given = spec(path=str(tmp_path / f"{name}.npz"))
        rows = encode(load_table(given), np.zeros(N, bool), given).rows
        np.testing.assert_array_equal(rows.features[:, 0], array.astype(np.float32))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "float32", "int32"])
def test_idx_round_trip(tmp_path, kind, zipped):
    from leakgauge.trainers.data.arrays import read_idx

    array = Seeds(4).generator().integers(0, 200, (N, 4, 3)).astype(kind)
    write_idx(tmp_path / "a", array, zipped)
    back = read_idx(tmp_path / "a")
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_idx_finds_its_labels_by_mnist_naming_and_joins_files(tmp_path):
    images = Seeds(5).generator().integers(0, 256, (2, N, 4, 4), dtype=np.uint8)
    labels = np.stack([np.arange(N) % 3, np.arange(N) % 4]).astype(np.uint8)
    for i, part in enumerate(("train", "t10k")):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images[i], True)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels[i], True)
    paths = [str(tmp_path / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k")]
    table = load_table(spec(path=paths))
    assert isinstance(table.content, Images)
    np.testing.assert_array_equal(table.content.pixels[:, 0], images.reshape(2 * N, 4, 4))
    np.testing.assert_array_equal(table.labels, labels.reshape(-1))
    assert table.classes == ("0", "1", "2", "3")
    assert table.records[0] == "train-images-idx3-ubyte.gz/row-000000"
    explicit = load_table(spec(path=paths[0], labels=str(tmp_path / "train-labels-idx1-ubyte.gz")))
    assert explicit.records[0] == "row-000000"


def test_joined_csv_unites_categories_and_classes(tmp_path):
    for name, jobs, labels in (("a", "yx", "10"), ("b", "zx", "02")):
        pd.DataFrame({"v": np.arange(N), "job": list(jobs) * (N // 2), "label": list(labels) * (N // 2)}).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    table = load_table(spec(path=[str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]))
    content = tabular(table)
    assert content.levels == (("x", "y", "z"),)
    assert [content.levels[0][c] for c in content.codes[:, 0]] == list("yx") * (N // 2) + list("zx") * (N // 2)
    assert [table.classes[i] for i in table.labels] == list("10") * (N // 2) + list("02") * (N // 2)
    pd.DataFrame({"w": np.arange(N), "job": ["x"] * N, "label": [0] * N}).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(ConfigError, match="column 'v' of c differs from a"):
        load_table(spec(path=[str(tmp_path / "a.csv"), str(tmp_path / "c.csv")]))


def write_images(root: Path, mode: str = "L") -> np.ndarray:
    pixels = Seeds(6).generator().integers(0, 256, (N, 6, 5) if mode == "L" else (N, 6, 5, 3), dtype=np.uint8)
    for i, array in enumerate(pixels):
        folder = root / ("cat" if i % 2 else "dog/small")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / f"{i:02d}.png")
    return pixels


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_image_folder_round_trip(tmp_path, mode):
    pixels = write_images(tmp_path, mode)
    (tmp_path / "README.txt").write_text("x")
    table = load_table(spec(path=str(tmp_path)))
    assert table.classes == ("cat", "dog/small")
    assert "1 files in the folder are no images of a class and were skipped" in table.warnings
    assert isinstance(table.content, Images)
    where = table.records.index("dog/small/04.png")
    seen = table.content.pixels[where]
    np.testing.assert_array_equal(seen[0] if mode == "L" else seen.transpose(1, 2, 0), pixels[4])
    assert table.classes[table.labels[where]] == "dog/small"


def test_image_folder_limit_keeps_ids_and_classes_and_resizes(tmp_path):
    write_images(tmp_path)
    whole = load_table(spec(path=str(tmp_path)))
    part = load_table(spec(path=str(tmp_path), limit=22, image_size=[3, 4]))
    assert len(part) == 22
    assert set(part.records) < set(whole.records)
    assert part.classes == whole.classes
    assert isinstance(part.content, Images)
    assert part.content.pixels.shape == (22, 1, 3, 4)


def test_one_colour_image_makes_all_colour(tmp_path):
    pixels = write_images(tmp_path)
    Image.fromarray(np.zeros((6, 5, 3), np.uint8)).save(tmp_path / "dog/small" / "zz.png")
    table = load_table(spec(path=str(tmp_path)))
    assert isinstance(table.content, Images)
    seen = table.content.pixels[table.records.index("cat/01.png")]
    assert seen.shape == (3, 6, 5)
    for channel in seen:
        np.testing.assert_array_equal(channel, pixels[1])


def test_labelled_and_plain_text(tmp_path):
    lines = [f"{'ham' if i % 2 else 'spam'}\tmessage number {i}" for i in range(N)]
    (tmp_path / "sms").write_text("\n".join([*lines[:3], "", *lines[3:]]) + "\n", encoding="utf-8")
    table = load_table(spec(path=str(tmp_path / "sms"), format="txt"))
    assert table.classes == ("ham", "spam")
    assert isinstance(table.content, Texts)
    assert table.content.values[3] == "message number 3"
    assert table.records[3] == "row-000004"  # the blank line keeps its number
    (tmp_path / "plain.txt").write_text("\n".join(f"line {i}\u2028same record" for i in range(N)), encoding="utf-8")
    data = load_data(spec(path=str(tmp_path / "plain.txt"), text_length=16))
    assert data.rows.features.shape == (N, 16)
    assert data.rows.features.dtype == np.int64
    assert bytes(data.rows.features[0][:6].astype(np.uint8)) == b"line 0"


def test_text_column_with_quotes_and_na_taken_literally(tmp_path):
    texts = ['say "hi', "NA", *(f"word{i}" for i in range(N - 2))]
    body = "".join(f"{t}\t{i % 2}\n" for i, t in enumerate(texts))
    (tmp_path / "a.tsv").write_text("sentence\tlabel\n" + body)
    table = load_table(spec(path=str(tmp_path / "a.tsv"), text_column="sentence"))
    assert isinstance(table.content, Texts)
    assert list(table.content.values) == texts
    assert table.classes == ("0", "1")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The `datasets` library with its cache in a temporary folder and the network off."""
    datasets = pytest.importorskip("datasets")
    import huggingface_hub.constants as constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return datasets


def test_hub_local_folder_and_file(tmp_path, hub):
    folder = tmp_path / "set"
    folder.mkdir()
    frame().to_parquet(folder / "train.parquet")
    local = load_table(spec(path=str(folder / "train.parquet"), id_column="id", group_column="user"))
    for source in (folder, folder / "train.parquet"):
        table = load_table(spec(hub=str(source), id_column="id", group_column="user"))
        assert table.fingerprint() == local.fingerprint()
    with pytest.raises(ConfigError, match="tets"):
        load_table(spec(hub=str(folder), split="tets"))


def test_hub_class_names_and_hidden_labels(tmp_path, hub):
    features = hub.Features({"t": hub.Value("string"), "label": hub.ClassLabel(names=["pos", "neg"])})
    data = hub.Dataset.from_dict({"t": [f"text {i}" for i in range(60)], "label": [0, 1, -1] * 20}, features=features)
    data.save_to_disk(str(tmp_path / "disk"))
    table = load_table(spec(hub=str(tmp_path / "disk"), text_column="t", missing="drop"))
    assert table.classes == ("pos", "neg")  # the source's order, not the alphabet's
    assert len(table) == 40
    assert table.records[2] == "row-000003"
    with pytest.raises(ConfigError, match=r"label of record row-000002 is missing \(20 in all\)"):
        load_table(spec(hub=str(tmp_path / "disk"), text_column="t"))


def test_hub_images(tmp_path, hub):
    pixels = Seeds(7).generator().integers(0, 256, (N, 6, 5, 3), dtype=np.uint8)
    data = hub.Dataset.from_dict(
        {"image": [Image.fromarray(p) for p in pixels], "label": [0, 1] * 15, "user": ["a", "b", "c"] * 10}
    ).cast_column("image", hub.Image())
    data.save_to_disk(str(tmp_path / "disk"))
    table = load_table(spec(hub=str(tmp_path / "disk"), limit=25, group_column="user"))
    assert isinstance(table.content, Images)
    place = int(table.records[7].removeprefix("row-"))
    np.testing.assert_array_equal(table.content.pixels[7].transpose(1, 2, 0), pixels[place])
    assert table.groups is not None
    assert table.groups[7] == "abc"[place % 3]


def test_hub_offline_is_a_one_line_prerequisite_error(hub):
    with pytest.raises(PrerequisiteError, match=r"data.hub 'org/no-such-set' at revision 'abcdef0'") as caught:
        load_table(spec(hub="org/no-such-set", revision="abcdef0"))
    assert "\n" not in str(caught.value)
    assert "connect to the network" in str(caught.value)
