"""The data sets and the ways of training of `bench attacks`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...audit.errors import PrerequisiteError
from ...audit.seeds import Seeds
from ...audit.types import Rows
from ...trainers.data import DataSpec, load_data
from ...trainers.dpsgd import DpSgd
from ...trainers.sgd import Sgd

SEED = 20261121
ADULT_COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """A data set: `load` gives audit and population rows for a number of audit records; `model` goes to every trainer.

    `sgd` and `dp` are further settings of the two kinds of training; `what` is printed.
    """

    what: str
    records: int
    load: Callable[[int], tuple[Rows, Rows]]
    model: dict[str, Any] = field(default_factory=dict)
    sgd: dict[str, Any] = field(default_factory=dict)
    dp: dict[str, Any] = field(default_factory=dict)


def data_folder() -> Path:
    """The folder at $LEAKGAUGE_DATA. `PrerequisiteError` without it."""
    folder = os.environ.get("LEAKGAUGE_DATA", "")
    if not folder or not Path(folder).is_dir():
        raise PrerequisiteError(
            f"bench attacks reads MNIST, CIFAR-10, Adult and SST-2 from the folder at $LEAKGAUGE_DATA, got {folder!r}: "
            "set it, or choose --dataset digits"
        )
    return Path(folder)


def digits(records: int) -> tuple[Rows, Rows]:
    """scikit-learn's digits with 20 % label noise: the fixture of `bench peers`."""
    return _split(DataSpec(seed=SEED, name="digits", label_noise=0.2), records)


def mnist(records: int) -> tuple[Rows, Rows]:
    """Training images of MNIST, 10 % label noise."""
    folder = data_folder() / "mnist"
    images, labels = (str(folder / f"train-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    return _split(DataSpec(seed=SEED, path=images, labels=labels, limit=records * 3 // 2, label_noise=0.1), records)


def adult(records: int) -> tuple[Rows, Rows]:
    """Census income, 10 % label noise; scaling and categories fitted on the population."""
    folder = data_folder() / "adult"
    spec = DataSpec(
        seed=SEED,
        path=(str(folder / "adult.data"), str(folder / "adult.test")),
        format="csv",
        columns=ADULT_COLUMNS,
        target="income",
        label_strip=".",
        comment="|",
        missing="category",
        limit=records * 3 // 2,
        label_noise=0.1,
    )
    return _split(spec, records)


def sst2(records: int) -> tuple[Rows, Rows]:
    """Sentiment of sentences, as hashed bags of words."""
    path = str(data_folder() / "glue" / "SST-2" / "train.tsv")
    spec = DataSpec(seed=SEED, path=path, format="tsv", target="label", text_column="sentence", limit=records * 3 // 2)
    return _split(spec, records)


def cifar10(records: int) -> tuple[Rows, Rows]:
    """The first 4000 training images of CIFAR-10, from sheets of 1000 rows of 1024 pixels."""
    from PIL import Image

    folder = data_folder() / "cifar10_png4k"
    sheets = [np.asarray(Image.open(folder / f"cifar10_batch_{b}.png").convert("RGB")) for b in range(4)]
    pixels = np.concatenate(sheets).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)
    labels = np.loadtxt(folder / "labels.txt", dtype=np.int64)
    features = np.ascontiguousarray(pixels, dtype=np.float32) / 255
    rows = Rows(features, labels, tuple(map(str, range(len(labels)))), 10, "cifar10")
    order = Seeds(SEED).at("split").generator().permutation(len(rows))
    return rows.take(order[:records]), rows.take(order[records : 2 * records])


CASES: dict[str, Case] = {
    "digits": Case("digits, 20 % label noise, MLP 64-128-10", 1200, digits, {"hidden": (128,)}, {"epochs": 50}),
    "mnist": Case("MNIST, 10 % label noise, MLP 784-64-10", 2000, mnist, {"hidden": (64,)}),
    "cifar10": Case(
        "CIFAR-10, small CNN", 1000, cifar10, {"model": "cnn", "channels": (8, 16)}, {"epochs": 15}, {"epochs": 10}
    ),
    "adult": Case("Adult, 10 % label noise, MLP 98-64-2", 2000, adult, {"hidden": (64,)}, {"epochs": 40}),
    "sst2": Case("SST-2, bag of words, MLP 1024-64-2", 2000, sst2, {"hidden": (64,)}, {"epochs": 20}),
}


def _sgd(case: Case, rows: int, **more: Any) -> Sgd:
    common: dict[str, Any] = {"optimizer": "adam", "learning_rate": 0.002, "epochs": 20, "batch_size": 64}
    return Sgd(**(common | {"nominal_rows": rows} | case.model | case.sgd | more))


def _dp(case: Case, rows: int, epsilon: float) -> DpSgd:
    common: dict[str, Any] = {"learning_rate": 0.5, "epochs": 20, "batch_size": max(rows // 8, 1), "nominal_rows": rows}
    return DpSgd(**(common | {"delta": 1e-5, "epsilon": epsilon} | case.model | case.dp))


TRAINERS: dict[str, Callable[[Case, int], Sgd | DpSgd]] = {
    "sgd": _sgd,
    "sgd-regularised": lambda case, rows: _sgd(case, rows, weight_decay=1e-3, dropout=0.5, epochs=10),
    "dp-sgd-8": lambda case, rows: _dp(case, rows, 8.0),
    "dp-sgd-3": lambda case, rows: _dp(case, rows, 3.0),
    "dp-sgd-1": lambda case, rows: _dp(case, rows, 1.0),
}
"""By name; the rows are the public half of the audit records. Regularised: weight decay, dropout, few epochs."""


def _split(spec: DataSpec, records: int) -> tuple[Rows, Rows]:
    loaded = load_data(spec, records)
    return loaded.rows.take(loaded.audit), loaded.rows.take(~loaded.audit)
