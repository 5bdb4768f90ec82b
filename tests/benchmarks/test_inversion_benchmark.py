"""The inversion benchmark: its page, equal seconds for both ways of running restarts, and the GPU case."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from leakgauge.attacks.inversion.images import InvertingGradients
from leakgauge.attacks.inversion.matching import Matching
from leakgauge.audit.errors import PrerequisiteError
from leakgauge.audit.types import Rows
from leakgauge.benchmarks import inversion, inversion_data, inversion_other, inversion_restarts


@pytest.fixture(scope="module")
def images() -> Rows:
    generator = np.random.default_rng(0)
    features = generator.random((60, 1, 12, 12)).astype(np.float32)
    return Rows(features, generator.integers(10, size=60), tuple(map(str, range(60))), 10, "noise")


def test_a_line_holds_what_was_measured(images, monkeypatch):
    monkeypatch.setattr(inversion, "TUNED", 30)
    setting = inversion.Setting("noise", "two steps", "lenet", InvertingGradients(victims=3, iterations=2))
    line = inversion.measure(setting, images)
    assert (line.victims, line.iterations) == (3, 2)
    assert line.low <= line.psnr <= line.high
    assert line.milliseconds is not None
    assert line.milliseconds > 0


def test_the_page_says_no_where_the_headline_fails():
    line = inversion.Line("cifar10", "headline", 20, 400, 17.0, 16.0, 18.0, 12.0, 14.0, 0.5, 9.0)
    page, good = inversion.render([line], [inversion.Noise(1.0, 4.38, 1, 0, 1, 0, 0.3, 0.39)], [], [])
    assert good
    assert "| 1 | 4.38 |" in page
    weak = inversion.Line("cifar10", "headline", 20, 400, 13.0, 12.0, 14.0, 12.0, 14.0, 0.5, 9.0)
    page, good = inversion.render([weak], [], [], [])
    assert not good
    assert "* NO: PSNR 13.0 dB" in page


def test_victims_were_never_tuned_on():
    private, public = inversion._sides(Rows(np.zeros((2100, 2)), np.zeros(2100), tuple(map(str, range(2100))), 2))
    assert set(private.records) == set(map(str, range(2000, 2100)))
    assert not set(private.records) & set(public.records)


def test_both_ways_get_the_same_seconds_and_starts(images):
    search = Matching(restarts=3, iterations=4)
    together, alone = inversion_restarts.race(images.take(np.arange(2)), model="lenet", search=search)
    assert (together.iterations, alone.iterations) == (4, 4)
    assert together.psnr == pytest.approx(alone.psnr, abs=0.1)
    page = "\n".join(inversion_restarts.pace_lines([together, alone]))
    assert "one after another | cpu | 2 | 1 | 3" in page


def test_figures_are_shown_beside_their_prior():
    figure = inversion_other.Figure("text, tag", "rouge_1", 20, 0.5, None, None, 0.1)
    assert "| text, tag | rouge_1 | 20 | 0.5 |  | 0.1 |" in "\n".join(inversion_other.figure_lines([figure]))


def test_a_missing_folder_is_named(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("LEAKGAUGE_DATA", str(tmp_path))
    with pytest.raises(PrerequisiteError, match="set LEAKGAUGE_DATA"):
        inversion_data.cifar()


def test_cifar_and_mnist_are_images_in_the_unit_range():
    if not Path(os.environ.get("LEAKGAUGE_DATA", "../shared/data")).is_dir():
        pytest.skip("LEAKGAUGE_DATA is not there")
    for rows, shape in ((inversion_data.cifar(), (3, 32, 32)), (inversion_data.mnist(50), (1, 28, 28))):
        assert rows.features.shape[1:] == shape
        assert 0 <= float(rows.features.min()) < float(rows.features.max()) <= 1
        assert math.isclose(float(rows.features.max()), 1.0)


@pytest.mark.gpu
def test_sixteen_restarts_of_eight_images_run_faster_in_one_program_on_a_gpu():
    generator = np.random.default_rng(0)
    rows = Rows(
        generator.random((8, 3, 32, 32)).astype(np.float32), np.arange(8), tuple(map(str, range(8))), 10, "noise"
    )
    search = Matching(restarts=16, iterations=50)
    together, alone = inversion_restarts.race(rows, device="cuda:0", model="convnet", batch=8, search=search)
    assert together.per_second > 2 * alone.per_second
