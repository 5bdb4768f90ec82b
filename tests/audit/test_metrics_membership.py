from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_curve

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.metrics import SplitScores, membership_metrics, operating_point, roc_band, worst_slice


def draw(seed: int, n: int = 400, *, ties: bool = False, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    inside = generator.random(n) < 0.5
    scores = generator.normal(size=n) + shift * inside
    return (np.round(scores, 1) if ties else scores), inside


def brute_force(scores: np.ndarray, inside: np.ndarray, fpr: float) -> tuple[int, int]:
    """True and false positives of the most permissive threshold with enough true negatives, by trying them all."""
    best = (0, 0)
    for threshold in np.unique(scores):
        hits, alarms = int((scores[inside] >= threshold).sum()), int((scores[~inside] >= threshold).sum())
        if alarms <= fpr * (~inside).sum() and (hits, alarms) > best:
            best = hits, alarms
    return best


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fpr", [0.5, 0.1, 0.03, 0.01])
def test_operating_points_equal_brute_force(seed, fpr) -> None:
    scores, inside = draw(seed)
    point = operating_point(SplitScores.of(scores, inside), fpr)
    assert (point.true_positives, point.false_positives) == brute_force(scores, inside, fpr)
    assert point.value == point.attainable == point.true_positives / inside.sum()
    assert point.fpr == point.false_positives / (~inside).sum() <= fpr


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fpr", [0.5, 0.1, 0.03, 0.01])
def test_tied_scores_keep_the_attainable_point_and_interpolate_the_roc(seed, fpr) -> None:
    scores, inside = draw(seed, ties=True)
    point = operating_point(SplitScores.of(scores, inside), fpr)
    hits, alarms = brute_force(scores, inside, fpr)
    assert point.false_positives == alarms
    assert point.true_positives == hits
    curve_fpr, curve_tpr, _ = roc_curve(inside, scores, drop_intermediate=False)
    allowed = np.floor(fpr * (~inside).sum()) / (~inside).sum()
    upper = curve_tpr[curve_fpr <= point.attainable_fpr + 1e-12].max()
    assert point.attainable == pytest.approx(upper)
    if point.tie_fraction:
        assert point.fpr == pytest.approx(allowed)
        assert point.value == pytest.approx(np.interp(allowed, curve_fpr, curve_tpr))
    assert point.low <= point.value <= point.high


def test_a_large_tie_at_the_top_is_no_false_zero() -> None:
    inside = np.arange(2000) < 1000
    scores = np.where(inside, np.arange(2000) < 300, np.arange(2000) < 1030).astype(float)
    point = membership_metrics(scores, inside).tpr_at_fpr["0.01"]
    assert point.attainable == 0.0
    assert point.value == pytest.approx(0.3 * 10 / 30)
    assert 0.0 <= point.low < 0.1 < point.high < 0.2
    assert point.to_json()["attainable"] == {"value": 0.0, "fpr": 0.0}


def test_too_few_nonmembers_are_not_measurable() -> None:
    scores, inside = draw(1, 1000)
    document = membership_metrics(scores, inside).to_json()
    nonmembers = int((~inside).sum())
    missing = document["tpr_at_fpr"]["0.001"]
    assert missing == {
        "value": None,
        "low": None,
        "high": None,
        "reason": f"not measurable with {nonmembers} non-members",
    }
    assert document["tpr_at_fpr"]["0.01"]["value"] is not None
    assert list(document["tpr_at_fpr"]) == ["0.1", "0.01", "0.001", "0.0001"]


@pytest.mark.parametrize(("nonmembers", "measurable"), [(99, False), (100, True), (1000, True)])
def test_measurable_from_one_over_the_rate_on(nonmembers, measurable) -> None:
    split = SplitScores(np.arange(10.0), np.arange(float(nonmembers)))
    assert (operating_point(split, 0.01).value is not None) == measurable


@pytest.mark.parametrize("decimals", [None, 0])
def test_interval_at_a_data_chosen_threshold_covers_the_rate_there(decimals) -> None:
    # The threshold comes from non-members, so the interval is exact: coverage >= 0.95. 3000 trials, standard error
    # 0.004; failing below 0.937 happens with probability below 1e-3 even at coverage of exactly 0.95.
    generator = np.random.default_rng(21)
    covered = 0
    for _ in range(3000):
        members, nonmembers = generator.normal(size=150) + 1, generator.normal(size=120)
        if decimals is not None:
            members, nonmembers = np.round(members), np.round(nonmembers)
        point = operating_point(SplitScores(np.sort(members), np.sort(nonmembers)), 0.05)
        if decimals is None:
            truth = norm.sf(point.above - 1)
        else:
            strictly, tied = norm.sf(point.above - 0.5), norm.cdf(point.above - 0.5) - norm.cdf(point.above - 1.5)
            truth = strictly + point.tie_fraction * tied
        covered += point.low <= truth <= point.high
    assert covered / 3000 >= 0.937


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 1.0])
def test_advantage_equals_scikit_learn_s_curve(ties, shift) -> None:
    scores, inside = draw(3, ties=ties, shift=shift)
    metrics = membership_metrics(scores, inside)
    fpr, tpr, _ = roc_curve(inside, scores, drop_intermediate=False)
    assert metrics.advantage == pytest.approx((tpr - fpr).max())
    assert metrics.balanced_accuracy == pytest.approx((1 + (tpr - fpr).max()) / 2)
    hits, alarms = metrics.best
    assert hits / inside.sum() - alarms / (~inside).sum() == pytest.approx(metrics.advantage)


@pytest.mark.parametrize("ties", [False, True])
def test_roc_band_lies_on_the_curve(ties) -> None:
    scores, inside = draw(4, 5000, ties=ties)
    band = roc_band(SplitScores.of(scores, inside))
    fpr, tpr, _ = roc_curve(inside, scores, drop_intermediate=False)
    # The curve rises vertically: between corners a point is one of several TPRs of the same FPR.
    low = [tpr[np.isclose(fpr, x)].min() for x in band.fpr]
    high = [tpr[np.isclose(fpr, x)].max() for x in band.fpr]
    assert (np.array(low) - 1e-12 <= band.tpr).all()
    assert (band.tpr <= np.array(high) + 1e-12).all()
    assert len(band.fpr) <= 64
    assert (band.fpr[0], band.fpr[-1], band.tpr[-1]) == (0.0, 1.0, 1.0)
    assert (np.diff(band.fpr) >= 0).all()
    assert (np.diff(band.tpr) >= 0).all()
    assert all(a <= b <= c for a, b, c in zip(band.low, band.tpr, band.high, strict=True))


def test_document_is_json_and_its_rates_follow_from_its_counts() -> None:
    scores, inside = draw(5, 3000)
    scores[:3] = np.inf, -np.inf, np.inf
    document = json.loads(json.dumps(membership_metrics(scores, inside).to_json(), allow_nan=False))
    counts = document["counts"]
    assert counts["members"] + counts["nonmembers"] == 3000
    for key, point in document["tpr_at_fpr"].items():
        if point["value"] is not None:
            assert point["value"] == counts["thresholds"][key]["true_positives"] / counts["members"]
            assert point["fpr"] == counts["thresholds"][key]["false_positives"] / counts["nonmembers"]
    assert set(document["auc"]) == {"value", "low", "high"}


def test_infinite_thresholds_are_absent_in_json() -> None:
    document = membership_metrics([np.inf, np.inf, 1.0, np.inf], [1, 0, 0, 0], rates=(0.5,)).to_json()
    json.dumps(document, allow_nan=False)
    assert document["tpr_at_fpr"]["0.5"]["above"] is None


@pytest.mark.parametrize("inside", [[True, False, True], [1, 0, 1], [1.0, 0.0, 1.0]])
def test_truth_may_be_boolean_or_binary(inside) -> None:
    assert membership_metrics([3.0, 1.0, 2.0], inside).auc.value == 1.0


@pytest.mark.parametrize(
    ("scores", "inside", "says"),
    [
        ([1.0, np.nan, 2.0], [True, False, True], "1 of 3 are NaN"),
        ([1.0, 2.0], [True, True], "2 members and 0 non-members"),
        ([1.0, 2.0], [True], "of one length"),
        ([1.0, 2.0], [2, 0], "booleans or 0 and 1"),
        ([1.0, 2.0], ["yes", "no"], "booleans or 0 and 1"),
    ],
)
def test_bad_input_is_named(scores, inside, says) -> None:
    with pytest.raises(ConfigError, match=says):
        membership_metrics(scores, inside)


def test_bad_rates_and_confidence_are_refused() -> None:
    scores, inside = draw(1)
    with pytest.raises(ConfigError, match="false-positive rate"):
        membership_metrics(scores, inside, rates=(0.0,))
    with pytest.raises(ConfigError, match="confidence"):
        membership_metrics(scores, inside, confidence=1.0)


@pytest.mark.parametrize("ties", [False, True])
def test_a_million_scores_take_little_memory(ties) -> None:
    scores, inside = draw(6, 1_000_000, ties=ties)
    membership_metrics(scores, inside)
    tracemalloc.start()
    membership_metrics(scores, inside)
    assert tracemalloc.get_traced_memory()[1] < 300e6
    tracemalloc.stop()


def test_worst_slice_finds_the_leaking_group_and_corrects() -> None:
    generator = np.random.default_rng(7)
    groups = np.repeat([f"g{i}" for i in range(10)], 300)
    inside = generator.random(3000) < 0.5
    scores = generator.normal(size=3000) + 1.0 * inside * (groups == "g7")
    report = worst_slice(scores, inside, groups.tolist())
    assert report.worst.group == "g7"
    assert report.worst.auc.low > 0.6
    assert report.to_json()["corrected_for"] == 10
    alone = worst_slice(scores[groups == "g7"], inside[groups == "g7"], ["g7"] * 300)
    assert alone.worst.auc.low > report.worst.auc.low


def test_worst_slice_rarely_accuses_without_leakage() -> None:
    # 400 audits of 10 groups: at most 2.5 % (one side) may have any group's lower limit above 1/2; standard error
    # 0.8 %, so above 5.5 % (asymptotic limits, 3.5 standard errors) is a failure of the correction, not chance.
    generator = np.random.default_rng(8)
    groups = np.repeat([f"g{i}" for i in range(10)], 100).tolist()
    accused = 0
    for _ in range(400):
        report = worst_slice(generator.normal(size=1000), generator.random(1000) < 0.5, groups)
        accused += report.worst.auc.low > 0.5
    assert accused / 400 < 0.055


def test_small_groups_are_listed_not_measured() -> None:
    report = worst_slice([1.0, 2.0, 3.0], [True, False, True], ["a", "a", "b"])
    assert report.worst is None
    assert report.skipped == ("a", "b")
    with pytest.raises(ConfigError, match="of one length"):
        worst_slice([1.0], [True], ["a", "b"])
