"""The real data under `LEAKGAUGE_DATA` (default `../shared/data` from the repository's root); skipped where absent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from leakgauge.trainers.data import DataSpec, Images, Texts, load_data, load_table

ROOT = Path(os.environ.get("LEAKGAUGE_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
ADULT = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)


def real(*names: str) -> list[str]:
    """Paths below the data folder; skips the test where one is absent."""
    paths = [ROOT / name for name in names]
    for path, name in zip(paths, names, strict=True):
        if not path.exists():
            pytest.skip(f"real data absent: {path} (set LEAKGAUGE_DATA to the folder that holds {name.split('/')[0]}/)")
    return [str(p) for p in paths]


MNIST = ("mnist/train-images-idx3-ubyte.gz", "mnist/t10k-images-idx3-ubyte.gz")


def test_mnist_values_and_class_counts():
    table = load_table(DataSpec(seed=1, path=real(*MNIST)))
    assert isinstance(table.content, Images)
    assert table.content.pixels.shape == (70000, 1, 28, 28)
    # Class counts of the training part as published with the data set.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(table.labels[:60000]).tolist() == counts
    assert table.labels[:5].tolist() == [5, 0, 4, 1, 9]
    # Mean pixel of the training images, the figure every tutorial normalises with: 0.1307.
    assert abs(table.content.pixels[:60000].mean() / 255 - 0.1307) < 5e-5


def test_mnist_of_70000_loads_in_three_seconds_of_processor_time_and_one_gigabyte():
    paths = real(*MNIST)
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc, which only Linux has")
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from leakgauge.trainers.data import DataSpec, load_data\n"
        "start = resource.getrusage(resource.RUSAGE_SELF)\n"
        "data = load_data(DataSpec(seed=1, path=sys.argv[1:]))\n"
        "end = resource.getrusage(resource.RUSAGE_SELF)\n"
        "assert data.rows.features.shape == (70000, 1, 28, 28)\n"
        "seconds = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime\n"
        # VmHWM, not ru_maxrss: the latter starts at the size of the process that started this one.
        "print(seconds, Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    out = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True, timeout=120)
    seconds, kilobytes = map(float, out.stdout.split())
    # Processor time, not wall time: other jobs on the machine do not count. Measured 1.4 s and 0.4 GB.
    assert seconds < 3
    assert kilobytes < 2**20


def test_adult_both_parts():
    data = load_data(
        DataSpec(
            seed=1,
            path=real("adult/adult.data", "adult/adult.test"),
            format="csv",
            columns=ADULT,
            target="income",
            comment="|",
            label_strip=".",
            missing="category",
            drop=("fnlwgt",),
        )
    )
    assert data.class_names == ("<=50K", ">50K")
    # As published with the data set: 48842 instances, 3620 of them with unknown values, 11687 above 50K.
    assert len(data.rows) == 48842
    assert data.rows.labels.sum() == 11687
    assert "3620 of 48842 records have a missing value, kept as a category of its own" in data.warnings
    assert np.isfinite(data.rows.features).all()
    assert not data.fitted_on_private


def test_sms_spam_counts():
    table = load_table(DataSpec(seed=1, path=real("sms_spam/SMSSpamCollection"), format="txt"))
    assert len(table) == 5574
    assert int((table.labels == table.classes.index("spam")).sum()) == 747


def test_sst2_sentences():
    (path,) = real("glue/SST-2/train.tsv")
    table = load_table(DataSpec(seed=1, path=path, text_column="sentence"))
    assert len(table) == 67349
    assert isinstance(table.content, Texts)
    assert table.content.values[0].strip() == "hide new secretions from the parental units"


def test_cifar_sheets_by_the_recipe_in_the_docs(tmp_path):
    """docs/data.md, "CIFAR-10 sheets": the recipe there, word for word."""
    folder = Path(real("cifar10_png4k")[0])
    document = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    recipe = document.split("<!-- cifar recipe -->")[1].split("```python\n")[1].split("```")[0]
    exec(compile(recipe, "recipe", "exec"), {"folder": folder, "out": tmp_path / "cifar.npz"})
    data = load_data(DataSpec(seed=1, path=str(tmp_path / "cifar.npz")))
    assert data.rows.features.shape == (4000, 3, 32, 32)
    assert data.rows.classes == 10
    # Neighbouring pixels of a photograph are alike; in a wrongly reshaped one they are not.
    across = np.abs(np.diff(data.rows.features, axis=3)).mean()
    down = np.abs(np.diff(data.rows.features, axis=2)).mean()
    assert max(across, down) < 0.08
