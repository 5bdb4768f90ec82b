"""`leakgauge score` and `audit_scores`: designs, verdicts, files, bad input."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.scores import as_bool, audit_scores, read_scores
from leakgauge.audit.types import Claim, Verdict


def gaussian(n: int, mu: float, seed: int = 0):
    rng = np.random.default_rng(seed)
    inside = rng.random(n) < 0.5
    return rng.normal(size=n) + mu * inside, inside


def test_the_default_design_gives_metrics_and_no_bound():
    scores, inside = gaussian(1000, 3.0)
    result = audit_scores(scores, inside, claim=Claim(0.1, 1e-5))
    assert result.bounds == ()
    assert result.judgement.reason == "design-unknown"
    assert result.metrics["auc"]["value"] > 0.9


def test_coins_certify_and_refute():
    scores, inside = gaussian(2000, 4.0)
    result = audit_scores(scores, inside, design="coin", guesses=400, claim=Claim(0.5, 1e-6))
    assert result.judgement.verdict is Verdict.VIOLATED
    assert [b.method for b in result.bounds] == ["one-run"]


def test_runs_choose_their_threshold_on_the_other_half():
    scores, inside = gaussian(2000, 4.0)
    result = audit_scores(scores, inside, design="runs", claim=Claim(0.5, 1e-6))
    assert result.judgement.verdict is Verdict.VIOLATED
    assert [b.method for b in result.bounds] == ["clopper-pearson", "bayesian", "gdp"]
    assert str(result.bounds[0].selection) == "holdout"
    assert result.bounds[0].counts["members"] + result.bounds[0].counts["nonmembers"] in {999, 1000, 1001}


def test_a_threshold_fixed_beforehand_uses_every_run():
    scores, inside = gaussian(2000, 4.0)
    result = audit_scores(scores, inside, design="runs", threshold=2.0)
    assert str(result.bounds[0].selection) == "fixed"
    assert result.bounds[0].counts["members"] == inside.sum()


@pytest.mark.parametrize("design", ["coin", "runs"])
def test_noise_is_rarely_called_leakage(design):
    # True epsilon 0; 60 audits at 5 %: more than 10 false claims have probability below 4e-4 for a sound bound.
    claims = 0
    for seed in range(60):
        scores, inside = gaussian(400, 0.0, seed)
        claims += audit_scores(scores, inside, design=design).bounds[0].epsilon > 0
    assert claims <= 10


def test_worst_group_is_reported_with_correction():
    scores, inside = gaussian(900, 1.0)
    groups = tuple("abc"[i % 3] for i in range(900))
    result = audit_scores(scores, inside, groups=groups)
    assert sorted(s["group"] for s in result.metrics["slices"]["slices"]) == ["a", "b", "c"]
    assert result.metrics["slices"]["corrected_for"] == 3


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_files_of_every_format_read_alike(tmp_path, suffix):
    scores, inside = gaussian(50, 1.0)
    path = tmp_path / f"s.{suffix}"
    frame = pd.DataFrame({"score": scores, "inside": inside.astype(int), "record": [f"r{i}" for i in range(50)]})
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        np.savez(path, score=scores, inside=inside, record=frame["record"].to_numpy(dtype=str))
    read = read_scores(path)
    assert np.allclose(read.scores, scores)
    assert np.array_equal(read.inside, inside)
    assert read.records[3] == "r3"


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"score": [1.0, 2.0]}, "no column 'inside'"),
        ({"score": ["a", "b"], "inside": [0, 1]}, "must be numbers"),
        ({"score": [1.0, 2.0], "inside": [0, 2]}, "expected 0/1"),
    ],
)
def test_bad_files_are_refused(tmp_path, frame, words):
    path = tmp_path / "s.csv"
    pd.DataFrame(frame).to_csv(path, index=False)
    with pytest.raises(ConfigError, match=words):
        read_scores(path)


def test_booleans_in_any_clothing():
    assert as_bool(np.array(["True", "false", "1"])).tolist() == [True, False, True]
    with pytest.raises(ConfigError, match="maybe"):
        as_bool(np.array(["maybe"]))


def leakgauge(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "leakgauge", *arguments], capture_output=True, text=True, check=False)


def test_command_line_exit_codes_and_clean_json(tmp_path):
    scores, inside = gaussian(2000, 4.0)
    path = tmp_path / "s.csv"
    pd.DataFrame({"score": scores, "inside": inside}).to_csv(path, index=False)
    done = leakgauge(
        "score", str(path), "--design", "coin", "--guesses", "400", "--epsilon", "1", "--delta", "1e-5", "--json"
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["verdict"] == "violated"
    assert leakgauge("score", str(path), "--json").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epsilon", "1"], "--delta"),
        (["--design", "fair"], "coin, runs, unknown"),
        (["--design", "coin", "--guesses", "99"], "got 99"),
        (["--confidence", "1"], "got 1"),
        (["--unit", "galaxy"], "galaxy"),
    ],
)
def test_command_line_mistakes_are_one_line_and_exit_2(tmp_path, arguments, words):
    path = tmp_path / "s.csv"
    pd.DataFrame({"score": [1.0, 2.0, 3.0, 4.0] * 5, "inside": [0, 1] * 10}).to_csv(path, index=False)
    done = leakgauge("score", str(path), *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
