"""The command line's contract: numbers, clean JSON, one-line errors, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest


def leakgauge(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "leakgauge", *arguments], capture_output=True, text=True, check=False)


def answer(*arguments: str) -> dict:
    done = leakgauge(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_one_run_reference_value():
    found = answer("bound", "one-run", "--canaries", "1000", "--guesses", "100", "--correct", "90", "--delta", "1e-5")
    assert found["epsilon"] == pytest.approx(1.62614, abs=1e-4)
    assert found["ceiling"] == pytest.approx(3.46538, abs=1e-4)
    assert (found["null_class"], found["validity"]) == ("approx-dp", "frequentist")


def test_clopper_pearson_reference_value():
    counts = ["--true-positives", "90", "--false-positives", "10", "--members", "100", "--nonmembers", "100"]
    assert answer("bound", "clopper-pearson", *counts)["epsilon"] == pytest.approx(1.54215, abs=1e-4)


def test_account_reference_values():
    found = answer(
        *("account", "dp-sgd", "--noise-multiplier", "1", "--sample-rate", "0.01", "--steps", "1000", "--delta", "1e-5")
    )
    assert found["pld"] == pytest.approx(1.8282, abs=5e-4)
    assert found["rdp"] == pytest.approx(2.101, abs=1e-3)
    assert found["gdp"] < found["pld"] < found["prv"] < found["rdp"]
    assert found["not_upper_bounds"] == ["gdp"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bound", "one-run", "--canaries", "100", "--guesses", "50"], "--correct"),
        (["bound", "one-run", "--canaries", "100", "--guesses", "50", "--correct", "60"], "60"),
        (["bound", "one-run", "--canaries", "20", "--guesses", "50", "--correct", "5"], "50"),
        (["bound", "one-run", "--canaries", "100", "--guesses", "50", "--correct", "40", "--confidence", "1"], "1"),
        (["bound", "one-run", "--canaries", "100", "--guesses", "50", "--correct", "40", "--delta", "1"], "1"),
        (
            [
                "bound",
                "gdp",
                "--true-positives",
                "9",
                "--false-positives",
                "1",
                "--members",
                "10",
                "--nonmembers",
                "10",
            ],
            "delta",
        ),
        (["bound", "one-rum"], "one-run"),
        (
            [
                "account",
                "dp-sgd",
                "--noise-multiplier",
                "-1",
                "--sample-rate",
                "0.1",
                "--steps",
                "10",
                "--delta",
                "1e-5",
            ],
            "-1",
        ),
        (
            [
                "account",
                "laplace",
                "--noise-multiplier",
                "1",
                "--sample-rate",
                "0.1",
                "--steps",
                "10",
                "--delta",
                "1e-5",
            ],
            "laplace",
        ),
        (["list", "atacks"], "attacks"),
        (["show", "lirra"], "lira"),
        (["run", "nowhere.toml"], "nowhere.toml"),
        (["report", "nowhere"], "nowhere"),
        (["bench", "brocken"], "broken"),
        (["run", "quickstart", "--device", "tpu"], "tpu"),
    ],
    ids=lambda a: " ".join(a[:3]) if isinstance(a, list) else None,
)
def test_mistakes_are_one_line_and_exit_2(arguments, words):
    done = leakgauge(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("kind", ["trainers", "attacks", "bounds", "datasets", "suites", "rules"])
def test_everything_listed_can_be_shown(kind):
    from leakgauge.audit.cli import known_names
    from leakgauge.audit.show import describe_name

    for name in known_names(kind):
        assert len(describe_name(name)) > 40, name


def test_env_names_versions():
    assert {"leakgauge", "python", "torch", "opacus", "dp_accounting"} <= set(answer("env"))


def test_attack_on_signals_from_anywhere(tmp_path):
    rng = np.random.default_rng(0)
    models, records, classes = 9, 300, 4
    inside = rng.random((models, records)) < 0.5
    labels = rng.integers(0, classes, records)
    logits = rng.normal(size=(models, records, classes))
    logits[np.arange(models)[:, None], np.arange(records), labels] += 1 + 2.5 * inside
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    np.savez(tmp_path / "s.npz", probs=probs.astype(np.float32), labels=labels, inside=inside)
    found = answer("attack", "lira", "--signals", str(tmp_path / "s.npz"), "--out", str(tmp_path / "scores.parquet"))
    assert found["metrics"]["auc"]["value"] > 0.8
    table = pd.read_parquet(tmp_path / "scores.parquet")
    assert list(table.columns) == ["record", "score", "inside"]
    assert np.array_equal(table["inside"], inside[0])
    scored = answer("score", str(tmp_path / "scores.parquet"), "--design", "coin", "--guesses", "100")
    assert scored["bound"]["epsilon"] > 0
    refused = leakgauge("attack", "lira", "--signals", str(tmp_path / "s.npz"), "--set", "shadws=4")
    assert refused.returncode == 2
    assert "shadows" in refused.stderr
