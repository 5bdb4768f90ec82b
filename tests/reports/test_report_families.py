"""Sections of further families: threat, measures with baselines, groups, curves, examples."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from leakgauge.audit.errors import StaleArtifactError
from leakgauge.reports.figures.lines import described, lines_figure
from leakgauge.reports.figures.png import png
from leakgauge.reports.model import Series
from leakgauge.reports.render import render
from leakgauge.reports.schema import validate_audit


def markdown(audit: dict[str, Any], out: Path, **options: Any) -> str:
    return render(audit, out, ("md",), **options)[0].read_text(encoding="utf-8")


@pytest.fixture
def more(builder: Any) -> dict[str, Any]:
    """The sample with further families and without what takes long to draw."""
    audit: dict[str, Any] = builder.sample(more=True)
    for finding in audit["findings"]:
        if finding["metrics"]:
            finding["metrics"].pop("roc", None)
    return audit


def test_each_family_has_its_section_between_results_and_utility(more: dict[str, Any], tmp_path: Path) -> None:
    text = markdown(more, tmp_path)
    titles = [line.split(". ", 1)[1] for line in text.splitlines() if line.startswith("## ")]
    detailed = [title for title in titles if title.startswith("In detail")]
    assert [title.split(": ")[1].split()[0] for title in detailed] == [
        "Model",
        "Extraction",
        "Attribute",
        "Client",
        "Watermark",
    ]
    assert titles.index(detailed[0]) == titles.index("Results") + 1
    assert titles.index(detailed[-1]) + 1 == titles.index("Utility beside leakage")


def test_measures_stand_beside_what_an_attacker_without_the_model_reaches(more: dict[str, Any], tmp_path: Path) -> None:
    text = markdown(more, tmp_path)
    assert "| PSNR | 21.3 \\[19.8, 22.9\\] dB | 9.1 \\[8.8, 9.4\\] (mean image) | 32 | lower |" in text
    assert "SSIM is not reported: victims are smaller than the window." in text
    assert "Exposure | 7.2 \\[5.1, 9.9\\] bits | – | 20 | – |" in text
    # What each figure means is explained where it stands.
    assert "**Exposure:** How far the model prefers a planted secret" in text
    # What is not known by name is called by its key.
    assert "**Own words:** anything at all" in text


def test_the_worst_group_stands_first(more: dict[str, Any], tmp_path: Path) -> None:
    text = markdown(more, tmp_path)
    order = re.findall(r"\| (class \d) \|", text)
    assert order == [f"class {index}" for index in range(9, -1, -1)]


def test_equal_threats_are_told_once_and_others_by_name(more: dict[str, Any], tmp_path: Path) -> None:
    twin = json.loads(json.dumps(more["findings"][-5]))
    twin["attack"] = "inversion-2"
    more["findings"].append(twin)
    assert markdown(more, tmp_path).count("one client's update of one round") == 1
    twin["threat"]["knows"] = "nothing"
    text = markdown(more, tmp_path)
    assert text.count("one client's update of one round") == 2
    assert "#### sgd · inversion-2" in text


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"series": [{"title": "t", "x_label": "x", "y_label": "y", "lines": []}]}, "series"),
        ({"examples": [{"kind": "image", "original": [[0, 256]]}]}, "original"),
        ({"examples": [{"kind": "image", "original": [[0, 1], [0]]}]}, "rectangle"),
        ({"examples": [{"kind": "sound", "original": None}]}, "examples"),
        ({"examples": [{"kind": "text", "original": "x" * 3}] * 65}, "examples"),
        ({"slices": [{"slice": "a", "value": 0.5, "low": 0.6, "high": 0.4}]}, "slices"),
        ({"metrics": {"measures": {"psnr": {"value": 1.0, "better": "up"}}}}, "better"),
    ],
)
def test_wrong_exhibits_are_refused_with_their_path(more: dict[str, Any], change: dict[str, Any], where: str) -> None:
    more["findings"][-5].update(change)
    with pytest.raises(StaleArtifactError, match=rf"findings\[\d+\].*{where}|{where}"):
        validate_audit(more)


def test_logarithmic_axes_refuse_zero(more: dict[str, Any]) -> None:
    more["findings"][-5]["series"][0]["lines"][0]["x"][0] = 0.0
    with pytest.raises(StaleArtifactError, match="at or below 0"):
        validate_audit(more)


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (3, 64), (32, 20, 3)])
def test_png_is_read_back_by_another_library(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, shape)
    read = np.asarray(Image.open(io.BytesIO(png(pixels.tolist()))))
    assert np.array_equal(read, pixels)


def test_a_chart_is_repeatable_and_says_its_ends(builder: Any) -> None:
    series = Series.model_validate(builder.exhibits()[0]["series"][0])
    assert lines_figure(series, "alt") == lines_figure(series, "alt")
    assert "attack: 10.5 (epsilon 1) – 20.2 (epsilon 8)" in described(series)
    assert ">PSNR (dB)<" in lines_figure(series, "alt")
