from __future__ import annotations

import json

import pytest
from scipy import stats

from leakgauge.audit.comparison import build_baseline, read_trend, write_baseline
from leakgauge.audit.errors import ConfigError, StaleArtifactError


@pytest.fixture
def folder(make, tmp_path):
    for order, (name, effect, epsilon) in enumerate([("b", 0.5, 3.0), ("a", 1.5, 2.0)]):
        runs = [
            make.document(s, [make.finding(s, effect=effect)], epsilon=epsilon)
            for s in range(10 * order, 10 * order + 5)
        ]
        write_baseline(build_baseline(runs, commit=f"{name}" * 40), tmp_path / "baselines" / f"{name}.json")
    return tmp_path / "baselines"


def test_points_are_ordered_by_time(folder):
    (trend,) = read_trend(folder)
    (series,) = trend.series
    assert [p.label for p in series.points] == ["b" * 10, "a" * 10]
    assert [p.file for p in series.points] == ["b.json", "a.json"]
    assert series.points[0].mean < series.points[1].mean
    assert [p.epsilon for p in trend.claims["dp-sgd"]] == [3.0, 2.0]
    json.dumps(trend.to_json(), allow_nan=False)


def test_limits_are_those_of_a_mean(folder):
    (trend,) = read_trend(folder, confidence=0.9)
    point = trend.series[0].points[0]
    assert point.low < point.mean < point.high
    assert min(point.values) < point.mean < max(point.values)
    # Where seeds vary more than records explain, it is Student's interval on the logit scale.
    import numpy as np
    from scipy.special import expit, logit

    scaled = logit(np.array(point.values))
    naive = expit(scaled.mean() - stats.t.isf(0.05, 4) * scaled.std(ddof=1) / 5**0.5)
    assert point.low <= naive + 1e-6


def test_folders_without_baselines_are_refused(tmp_path, folder):
    with pytest.raises(ConfigError, match="no baselines"):
        read_trend(tmp_path / "none")
    (folder / "package.json").write_text('{"name": "something else"}')
    assert len(read_trend(folder)[0].series[0].points) == 2
    (folder / "broken.json").write_text("{")
    with pytest.raises(StaleArtifactError, match=r"broken\.json"):
        read_trend(folder)
