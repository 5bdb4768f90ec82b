"""What passes, what fails, and with which exit code."""

from __future__ import annotations

import json
import re

import pytest

from leakgauge.audit.comparison import build_baseline, compare_run
from leakgauge.audit.comparison.display import annotate, markdown, text_lines
from leakgauge.audit.errors import ConfigError


def row(comparison, attack="lira"):
    return next(r for r in comparison.rows if r.key.attack == attack)


def test_another_seed_passes_with_effect_interval_and_n(make, baseline):
    found = compare_run(baseline, make.document(7))
    assert (found.status, found.exit_code) == ("ok", 0)
    seen = row(found).measured
    low, high = seen.effect_interval
    assert low < 0 < high
    assert low < seen.effect < high
    assert (seen.seeds, seen.n, seen.statistic) == (5, 600, "auc")
    line = next(text for text in text_lines(found) if "membership.lira" in text)
    assert re.search(r"effect [+-]0\.\d+ \[-0\.\d+, \+0\.\d+\], n 600, 5 seeds, p ", line)


def test_much_more_leakage_is_a_regression(make, baseline):
    found = compare_run(baseline, make.document(7, [make.finding(7, effect=3.0)]))
    assert (found.status, found.exit_code) == ("regressed", 1)
    seen = row(found).measured
    assert seen.above
    assert seen.effect_interval[0] > 0
    assert seen.value > seen.high
    assert seen.adjusted <= 0.01


def test_less_leakage_is_noted_and_passes(make):
    runs = [make.document(s, [make.finding(s, effect=2.5)]) for s in range(1, 11)]
    found = compare_run(build_baseline(runs), make.document(20, [make.finding(20, effect=0.0)]))
    assert (row(found).status, found.exit_code) == ("improved", 0)
    assert "still working" in row(found).reasons[0]


def test_the_family_shares_one_error_probability(make):
    names = [f"attack-{i}" for i in range(8)]
    runs = [make.document(s, [make.finding(s, attack=a) for a in names]) for s in range(1, 6)]
    one = compare_run(build_baseline([make.document(s) for s in range(1, 6)]), make.document(9))
    many = compare_run(build_baseline(runs), make.document(9, [make.finding(9, attack=a) for a in names]))
    assert one.rows[0].measured.level == pytest.approx(0.01)
    assert [r.measured.level for r in many.rows] == pytest.approx([0.01 / 8] * 8)


@pytest.mark.parametrize("verdict", ["violated", "exceeds-policy", "error"])
def test_a_worse_verdict_is_a_regression(make, baseline, verdict):
    changed = make.finding(7, verdict=verdict)
    if verdict == "error":
        changed |= {"metrics": None, "bound": None, "claim": None}
    found = compare_run(baseline, make.document(7, [changed]))
    assert found.exit_code == 1
    assert f"and is {verdict}" in row(found).reasons[0]


def test_a_verdict_that_some_seed_had_is_not_worse(make):
    runs = [make.document(s) for s in range(1, 6)]
    runs[0]["findings"][0]["verdict"] = "violated"
    found = compare_run(build_baseline(runs), make.document(7, [make.finding(7, verdict="violated")]))
    assert found.exit_code == 0


def test_a_finding_that_disappears_is_a_regression(make, baseline):
    found = compare_run(baseline, make.document(7, []))
    assert found.exit_code == 1
    assert row(found).reasons == ("the finding is gone",)


def test_a_figure_that_disappears_is_a_regression(make, baseline):
    found = compare_run(baseline, make.document(7, [make.finding(7, metrics=None)]))
    assert found.exit_code == 1
    assert "auc is gone" in row(found).reasons[0]


def test_new_findings_are_reported_and_fail_only_when_bad(make, baseline):
    new = make.finding(7, attack="rmia")
    found = compare_run(baseline, make.document(7, [make.finding(7), new]))
    assert (row(found, "rmia").status, found.exit_code) == ("new", 0)
    new["verdict"] = "violated"
    assert compare_run(baseline, make.document(7, [make.finding(7), new])).exit_code == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f["bound"]["counts"].update(guesses=100.0), "guesses: 200 and 100"),
        (lambda f: f["evidence"]["needs"].update(shadows=64), "shadows: 8 and 64"),
    ],
)
def test_another_design_is_not_compared(make, baseline, change, words):
    changed = make.finding(7)
    change(changed)
    found = compare_run(baseline, make.document(7, [changed]))
    assert (found.status, found.exit_code) == ("incomparable", 2)
    assert words in row(found).reasons[0]
    assert row(found).measured is None


def test_another_threat_model_is_not_compared(make, baseline):
    found = compare_run(baseline, make.document(7, access=["labels"]))
    assert found.exit_code == 2
    assert "access" in row(found).reasons[0]


def test_a_regression_outranks_what_cannot_be_compared(make, baseline):
    found = compare_run(baseline, make.document(7, [], access=["labels"]))
    assert found.exit_code == 1


@pytest.mark.parametrize(
    ("epsilon", "status", "code"), [(3.0, "ok", 0), (3.002, "ok", 0), (3.1, "regressed", 1), (2.0, "improved", 0)]
)
def test_claims_are_compared(make, baseline, epsilon, status, code):
    found = compare_run(baseline, make.document(7, epsilon=epsilon))
    assert (found.claims[0].status, found.exit_code) == (status, code)


def test_a_claim_that_disappears_is_a_regression(make, baseline):
    found = compare_run(baseline, make.document(7, epsilon=None))
    assert found.claims[0].reason == "the claim is gone"
    assert found.exit_code == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit": "user"}, "unit was record and is user"),
        ({"adjacency": "zero-out"}, "adjacency was add-remove"),
        ({"delta": 1e-3, "curve": []}, "nothing at delta 1e-05"),
    ],
)
def test_claims_of_another_kind_are_never_passed(make, baseline, change, words):
    run = make.document(7)
    run["claims"][0] |= change
    found = compare_run(baseline, run)
    assert found.exit_code == 2
    assert words in found.claims[0].reason


def test_a_claim_at_another_delta_is_compared_by_its_curve(make, baseline):
    run = make.document(7)
    run["claims"][0] |= {"delta": 1e-6, "epsilon": 3.5}
    assert compare_run(baseline, run).claims[0].after == 3.0


def test_a_comparison_that_could_see_nothing_is_underpowered(make):
    effects = (-2.0, 4.0, 0.0, 3.0, -1.0)
    runs = [make.document(s, [make.finding(s, effect=e)]) for s, e in enumerate(effects)]
    found = compare_run(build_baseline(runs), make.document(9, [make.finding(9, effect=6.0)]))
    assert (row(found).status, found.exit_code) == ("underpowered", 3)
    assert not row(found).measured.visible


def test_a_baseline_that_leaks_all_there_is_cannot_get_worse(make):
    runs = [make.document(s, [make.finding(s, effect=50.0)]) for s in range(1, 6)]
    found = compare_run(build_baseline(runs), make.document(9, [make.finding(9, effect=50.0)]))
    assert row(found).measured.saturated
    assert found.exit_code == 0


def test_the_policy_of_the_run_decides_about_underpowered_runs(make, baseline):
    run = make.document(7, [make.finding(7, verdict="underpowered")])
    assert compare_run(baseline, run).exit_code == 0
    run["provenance"]["config"] = '[policy]\nfail_on = ["violated", "underpowered"]\n'
    assert compare_run(baseline, run).exit_code == 3
    run["provenance"]["config"] = "policy:\n  fail_on: [underpowered]\n"
    assert compare_run(baseline, run).exit_code == 3


def test_measures_where_more_is_better_fail_downwards(make):
    def game(value: float) -> dict:
        measures = {"psnr": {"value": value, "low": value - 1, "high": value + 1, "n": 20, "better": "higher"}}
        return make.finding(1, metrics={"measures": measures}, bound=None)

    runs = [make.document(s, [game(20 + 0.1 * s)]) for s in range(5)]
    against = build_baseline(runs)
    worse, better = (compare_run(against, make.document(9, [game(v)])) for v in (10.0, 30.0))
    assert (worse.exit_code, better.exit_code) == (1, 0)
    assert worse.rows[0].measured.value < worse.rows[0].measured.low
    assert better.rows[0].status == "improved"


def test_notes_say_what_else_differs(make, baseline):
    run = make.document(3)
    run["system"]["leakgauge"] = "9.9"
    run["system"]["trainers"][0]["spec"]["noise_multiplier"] = 0.5
    run["system"]["data"]["records"] = 5
    notes = " ".join(compare_run(baseline, run).notes)
    for words in ("9.9", "noise_multiplier: 1.0 and 0.5", "has 5", "seed 3 is one of the baseline's own"):
        assert words in notes


def test_mistakes_are_refused(make, baseline):
    with pytest.raises(ConfigError, match="confidence"):
        compare_run(baseline, make.document(7), confidence=1.0)
    with pytest.raises(ConfigError, match="'other'"):
        compare_run(baseline, make.document(7, name="other"))


def test_every_form_tells_the_same(make, baseline):
    bad = make.document(7, [make.finding(7, effect=3.0, attack="lira")], epsilon=4.0)
    found = compare_run(baseline, bad)
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (document["status"], document["exit_code"]) == ("regressed", 1)
    assert document["findings"][0]["measured"]["effect_low"] > 0
    text, table = "\n".join(text_lines(found)), markdown(found)
    assert "REGRESSED" in text
    assert "outcome: regressed (1 findings, 1 claims)" in text
    assert "**regressed**" in table
    assert all(line.count("|") == 11 for line in table.splitlines() if "membership.lira" in line)
    commands = list(annotate(found, "a,b:c.json"))
    assert [c.split(" ")[0] for c in commands] == ["::error", "::error"]
    assert "file=a%2Cb%3Ac.json,line=1," in commands[0]
