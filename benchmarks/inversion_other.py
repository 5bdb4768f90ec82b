"""Exact image batches, text and tables: what `leakgauge bench inversion-cifar` measures beside matched images."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..attacks.inversion.images import AnalyticInversion, DeepLeakage
from ..attacks.inversion.imprint import Imprint
from ..attacks.inversion.tabular import TabularInversion
from ..attacks.inversion.text.matching_game import TextMatching
from ..audit.games import Measure, Outcome, Stage
from ..audit.seeds import Seeds
from ..audit.types import Access, Rows
from ..trainers.data import DataSpec, encode, load_table, split
from ..trainers.sgd import Sgd
from .inversion_data import data_folder

VICTIMS, SEED = 20, 7
ADULT = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship",
    "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure beside its prior."""

    what: str
    measure: str
    victims: int
    value: float
    low: float | None
    high: float | None
    prior: float | None


def staged(game: Any, trainer: Any, private: Rows, public: Rows, seeds: Seeds) -> Outcome:
    """One game in a folder of its own, on the CPU."""
    inside = np.ones(len(private), dtype=np.bool_)
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(trainer, public, private, inside, _no_target, None, Access.GRADIENTS, "cpu", 0.95, Path(folder))
        return game.play(stage, seeds=seeds)  # type: ignore[no-any-return]


def _no_target() -> Any:
    raise AssertionError("these games need no trained target")


def figures(private: Rows, public: Rows, victims: int = VICTIMS) -> list[Figure]:
    """Every figure, images from `private`."""
    smooth = smooth_figures(private, public, victims)
    return [*smooth, *exact_figures(private, public, victims), *text_figures(private, victims), *table_figures(victims)]


def smooth_figures(private: Rows, public: Rows, victims: int) -> list[Figure]:
    """DLG in double precision through a network of sigmoids."""
    outcome = staged(
        DeepLeakage(victims=victims), Sgd(model="lenet", epochs=1), private, public, Seeds(SEED).at("smooth")
    )
    return _figures("dlg, lenet, 600 iterations", outcome, ("psnr", "ssim"))


def exact_figures(private: Rows, public: Rows, victims: int) -> list[Figure]:
    """Batches through linear layers and through a malicious server's bins."""
    perceptron, found = Sgd(model="mlp", hidden=(200,), epochs=1), []
    for method, batch in (("rows", 1), ("rows", 4), ("relu", 4), ("relu", 8)):
        game = AnalyticInversion(victims=victims, batch_size=batch, method=method)  # type: ignore[arg-type]
        outcome = staged(game, perceptron, private, public, Seeds(SEED).at("exact"))
        found += _figures(f"analytic, {method}, batch {batch}", outcome, ("psnr", "exact_share"))
    for batch, bins in ((8, 100), (64, 1000)):
        probe = Imprint(victims=victims, batch_size=batch, bins=bins)
        outcome = staged(probe, Sgd(model="convnet", epochs=1), private, public, Seeds(SEED).at("exact"))
        found += _figures(f"imprint, {bins} bins, batch {batch}", outcome, ("psnr", "exact_share"))
    return found


def text_figures(rows: Rows, victims: int, iterations: int = 150) -> list[Figure]:
    """TAG and LAMP beside the span test on the same victims; `rows` are not looked at."""
    found = []
    for method in ("tag", "lamp"):
        game = TextMatching(method=method, victims=victims, iterations=iterations)
        outcome = staged(game, Sgd(epochs=1), rows, rows, Seeds(SEED).at("text"))
        found += _figures(f"text, {method}", outcome, ("exact_sequences", "tokens_in_place", "rouge_1", "rouge_2"))
    return found


def table_figures(victims: int, iterations: int = 400) -> list[Figure]:
    """Adult: eight categories and six numbers."""
    path = str(data_folder("adult") / "adult.data")
    spec = DataSpec(
        path=(path,), format="csv", columns=ADULT, target="income", missing="category", limit=2000, seed=SEED
    )
    table = load_table(spec)
    audit = split(table, 1000, seeds=Seeds(SEED))
    rows = encode(table, ~audit, spec).rows
    found = []
    for words, batch, steps in (("batch 4", 4, 0), ("batch 4, trained", 4, 200), ("batch 16", 16, 0)):
        game = TabularInversion(victims=victims, batch_size=batch, trained_steps=steps, iterations=iterations)
        trainer = Sgd(model="mlp", hidden=(64,), epochs=1)
        outcome = staged(game, trainer, rows.take(audit), rows.take(~audit), Seeds(SEED).at("table"))
        kept = ("categories_right", "number_error", "numbers_near", "whole_records")
        found += _figures(f"Adult, {words}", outcome, kept)
    return found


def _figures(what: str, outcome: Outcome, kept: tuple[str, ...]) -> list[Figure]:
    def figure(name: str, measure: Measure) -> Figure:
        prior = None if measure.baseline is None else measure.baseline.value
        value = float("nan") if measure.value is None else measure.value
        return Figure(what, name, measure.n or 0, value, measure.low, measure.high, prior)

    return [figure(name, outcome.measures[name]) for name in kept]


def figure_lines(found: list[Figure]) -> list[str]:
    """The table of exact images, text and tables."""
    head = [
        "Smooth networks and exact batches (CIFAR-10; a LeNet of sigmoids, an MLP of 200, a ConvNet for the malicious",
        "imprint), English text (an encoder of width 48, six words of 300; beside `exact_sequences` stands the span",
        "test on the same victims), and tables (Adult; beside them modes and means of public rows).",
        "",
        "| attack | measure | victims | value | 95 % interval | without the gradient |",
        "|---|---|---:|---:|---|---:|",
    ]
    return [*head, *map(_figure_line, found)]


def _figure_line(figure: Figure) -> str:
    interval = "" if figure.low is None else f"{figure.low:.3g} .. {figure.high:.3g}"
    prior = "" if figure.prior is None else f"{figure.prior:.3g}"
    return f"| {figure.what} | {figure.measure} | {figure.victims} | {figure.value:.3g} | {interval} | {prior} |"
