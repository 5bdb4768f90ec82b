"""Several runs on one page: columns, seeds, frontier, trend."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leakgauge.audit.comparison import Baseline, read_trend, write_baseline
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.report_command import ReportRequest, report_runs
from leakgauge.reports.comparison import render_comparison
from leakgauge.reports.comparison.columns import columns, spread
from leakgauge.reports.comparison.frontier import Model, undominated
from leakgauge.reports.context import Context
from leakgauge.reports.model import Interval
from leakgauge.reports.schema import parse_audit
from leakgauge.reports.texts import languages, load_texts


def variant(builder: Any, *, name: str = "digits-quickstart", seed: int = 1, epsilon: float = 0.5) -> dict[str, Any]:
    audit: dict[str, Any] = builder.sample(plain=True)
    audit["name"] = name
    audit["provenance"]["seed"] = seed
    audit["findings"][0]["bound"]["epsilon"] = epsilon
    for finding in audit["findings"]:
        finding["metrics"]["roc"] = None
    return audit


def context(audit: dict[str, Any]) -> Context:
    return Context(parse_audit(audit), load_texts())


def test_seeds_share_a_column_and_other_differences_do_not(builder: Any) -> None:
    runs = [variant(builder, seed=1), variant(builder, seed=2), variant(builder, name="halved")]
    runs.append(variant(builder, seed=3))
    runs[-1]["system"]["trainers"][1]["spec"]["epsilon"] = 6.0
    made = columns([context(run) for run in runs])
    assert [(column.name, len(column.runs)) for column in made] == [
        ("digits-quickstart (1)", 2),
        ("halved", 1),
        ("digits-quickstart (2)", 1),
    ]


def test_a_spread_is_the_mean_between_the_extremes() -> None:
    draw = np.random.default_rng(4)
    values = draw.normal(size=7)
    found = spread(float(v) for v in values)
    assert found is not None
    assert (found.value, found.low, found.high, found.n) == (
        pytest.approx(values.mean()),
        values.min(),
        values.max(),
        7,
    )
    alone = Interval(value=0.5, low=0.4, high=0.6)
    assert spread([alone]) == alone
    assert spread([Interval(value=None)]) is None


def test_the_frontier_is_the_set_of_undominated_models() -> None:
    """Against the definition, on a small grid with ties: nobody is better in one and no worse in the other."""
    draw = np.random.default_rng(6)
    for _ in range(200):
        points = draw.integers(0, 4, (5, 2)) / 4
        models = [Model(str(i), Interval(value=x), Interval(value=y), None, None) for i, (x, y) in enumerate(points)]
        expected = [
            m.name
            for m, (x, y) in zip(models, points, strict=True)
            if not any((u <= x and v > y) or (u < x and v >= y) for u, v in points)
        ]
        assert [m.name for m in undominated(models)] == expected


@pytest.mark.parametrize("language", languages())
def test_the_page_shows_every_line_and_column(builder: Any, tmp_path: Path, language: str) -> None:
    runs = [
        variant(builder, seed=1, epsilon=0.5),
        variant(builder, seed=2, epsilon=0.7),
        variant(builder, name="other"),
    ]
    html, md = render_comparison(runs, tmp_path / "comparison.html", ("html", "md"), language=language)
    text = md.read_text(encoding="utf-8")
    assert "0.6 \\[0.5, 0.7\\] (n=2)" in text
    assert "sgd · lira" in text
    assert "other" in text
    assert html.read_text(encoding="utf-8").count("<svg") == 2
    again = render_comparison(json.loads(json.dumps(runs)), tmp_path / "again.html", ("html",), language=language)
    assert again[0].read_bytes() == html.read_bytes()


def test_runs_under_other_conditions_are_pointed_out(builder: Any, tmp_path: Path) -> None:
    runs = [variant(builder), variant(builder, name="white-box")]
    same = render_comparison(runs, tmp_path / "a.html", ("md",))[0].read_text()
    assert "These runs differ" not in same
    runs[1]["access"] = ["weights"]
    runs[1]["design"]["delta"] = 1e-7
    text = render_comparison(runs, tmp_path / "b.html", ("md",))[0].read_text()
    assert "These runs differ in what the attacker sees, the delta tested." in text


def baselines(folder: Path) -> None:
    for index, commit in enumerate(("a" * 40, "b" * 40, "c" * 40)):
        successes = [260 + 40 * index + k for k in range(5)]
        document = {
            "schema": "leakgauge/baseline/1",
            "name": "digits",
            "created": f"2026-11-{10 + index}T00:00:00Z",
            "commit": commit,
            "leakgauge": "0.1.0",
            "seeds": [1, 2, 3, 4, 5],
            "claims": [{"trainer": "dp-sgd", "epsilon": 3.0 + index, "delta": 1e-6}],
            "findings": [
                {
                    "rule": "membership.lira",
                    "trainer": "dp-sgd",
                    "attack": "lira",
                    "statistic": "guesses",
                    "verdicts": ["consistent"] * 5,
                    "figures": {"guesses": {"successes": successes, "trials": [500] * 5}},
                }
            ],
        }
        write_baseline(Baseline.model_validate(document), folder / f"{index}.json")


def test_a_trend_is_drawn_from_a_folder_of_baselines(tmp_path: Path) -> None:
    baselines(tmp_path / "baselines")
    request = ReportRequest([], ("html", "md"), out=tmp_path / "trend.html", trend=tmp_path / "baselines")
    html, md = report_runs(request)
    text = md.read_text(encoding="utf-8")
    trend = read_trend(tmp_path / "baselines")[0]
    for point in trend.series[0].points:
        assert f"| {point.label} |" in text
        assert point.low < point.mean < point.high
    assert "0.524" in text
    assert text.index("aaaaaaaaaa") < text.index("bbbbbbbbbb") < text.index("cccccccccc")
    assert "| dp-sgd | cccccccccc | 2026-11-12T00:00:00Z | 5 | 1e-6 |" in text
    assert html.read_text(encoding="utf-8").count("<svg") == 1


def test_what_belongs_to_one_run_is_refused_for_several(builder: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        builder.write(tmp_path / name, plain=True)
    runs = [tmp_path / "a", tmp_path / "b"]
    for options in ({"reveal": True}, {"tracker": "mlflow"}, {"statement": tmp_path}):
        with pytest.raises(ConfigError, match="comparison"):
            report_runs(ReportRequest(runs, ("html",), **options))
    with pytest.raises(ConfigError, match="junit"):
        report_runs(ReportRequest(runs, ("junit",), out=tmp_path / "c.html"))


def test_the_command_line_needs_no_torch(builder: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        builder.write(tmp_path / name, plain=True)
    code = (
        "import sys; sys.argv[1:] = sys.argv[1:]\n"
        "from leakgauge.audit.cli import main\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, "report", "a", "b", "--format", "html", "--out", "page.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["page.html"]
    assert "frontier" in (tmp_path / "page.html").read_text()
    assert len(list(itertools.islice(tmp_path.glob("*.html"), 5))) == 1
