from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from leakgauge.attacks.membership.signals import logit
from leakgauge.audit.errors import ConfigError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.signals_file import read_signals
from leakgauge.benchmarks.peers import suite, tables
from leakgauge.benchmarks.peers.attacks import (
    DEFAULTS,
    AttackRow,
    Mean,
    attack_rows,
    compare_families,
    our_attack_outcomes,
    our_attack_table,
    peer_attack_table,
)
from leakgauge.benchmarks.peers.coverage import OUR_CALLS, CallInfo
from leakgauge.benchmarks.peers.exchange import Peers
from leakgauge.benchmarks.peers.orderings import EXPECTED, Ordering, orderings
from leakgauge.benchmarks.peers.outcome import AttackOutcome
from leakgauge.benchmarks.peers.planning import PlannedDesign
from leakgauge.benchmarks.peers.signals import SignalsFixture, signals_fixture
from leakgauge.benchmarks.peers.worker.attacks import Signals
from leakgauge.trainers.sgd import Sgd

STUB = """
import json
import numpy as np

def main(arguments):
    task, request, arrays, reply = arguments
    request = json.load(open(request))
    arrays = np.load(arrays, allow_pickle=False)
    rows = []
    if task == "bounds":
        for fixture, calls in request["calls"].items():
            for call, trials in calls.items():
                rows.append(dict(call=call, fixture=fixture, values=[0.0] * trials, seconds=0.5, error=""))
    else:
        records = arrays["labels"].shape[0]
        for target in range(request["targets"]):
            for attack in request["attacks"]:
                scores = list(map(float, range(records)))
                row = dict(attack=attack, target=target, scores=scores, judged=list(range(records)), seconds=0.1)
                rows.append({**row, "error": ""})
    json.dump({"rows": rows, "versions": {"stub": "1"}}, open(reply, "w"))
    return 0
"""


def random_fixture(targets: int, shadows: int, records: int = 260, *, seed: int = 0) -> SignalsFixture:
    """Signals of models that know their members a little better."""
    generator = np.random.default_rng(seed)
    models, classes = targets + shadows, 5
    labels, population_labels = generator.integers(0, classes, records), generator.integers(0, classes, 120)
    inside = generator.random((models, records)) < 0.5
    inside[targets + 1 :: 2] = ~inside[targets::2]
    logits = generator.normal(size=(models, records, classes))
    logits[:, np.arange(records), labels] += 1.0 + 1.5 * inside
    public = generator.normal(size=(models, 120, classes))
    public[:, np.arange(120), population_labels] += 1.0

    def softmax(x):
        return (np.exp(x) / np.exp(x).sum(axis=2, keepdims=True)).astype(np.float32)

    return SignalsFixture(softmax(logits), labels, inside, softmax(public), population_labels, targets, 0.9, 0.8)


@pytest.fixture(scope="module")
def fixture() -> SignalsFixture:
    return random_fixture(2, 32)


def test_a_trained_fixture_round_trips_through_the_signals_file(tmp_path):
    seeds = Seeds(7)
    trained = signals_fixture(seeds=seeds, targets=2, shadows=2, trainer=Sgd(epochs=1, nominal_rows=600, hidden=(8,)))
    assert trained.probs.shape == (4, 1200, 10)
    assert trained.population_probs.shape == (4, 597, 10)
    assert np.array_equal(trained.inside[2], ~trained.inside[3])  # shadows are complementary
    assert 0.4 < trained.inside[0].mean() < 0.6
    assert not np.array_equal(trained.inside[0], trained.inside[1])
    for target in (0, 1):
        trained.write(tmp_path / "signals.npz", target)
        read, truth = read_signals(tmp_path / "signals.npz")
        mine = trained.evidence(target)
        assert np.array_equal(truth, trained.inside[target])
        assert np.allclose(read.target, mine.target, atol=1e-6)
        assert np.allclose(read.shadows, mine.shadows, atol=1e-6)
        assert np.array_equal(read.shadow_inside, mine.shadow_inside)
        assert np.allclose(read.population_shadows, mine.population_shadows, atol=1e-6)


def test_peers_see_the_same_logits_as_ours(fixture):
    signals = Signals.of(fixture.arrays(), 1, fixture.targets)
    assert np.allclose(signals.logit, logit(fixture.evidence(1).target, fixture.labels), atol=1e-5)
    assert np.allclose(signals.shadow_logit[3], logit(fixture.evidence(1).shadows[3], fixture.labels), atol=1e-5)
    assert np.array_equal(signals.inside, fixture.inside[1])
    assert np.array_equal(signals.shadow_inside, fixture.inside[2:])
    own = [fixture.population_probs[1, i, c] for i, c in enumerate(fixture.population_labels)]
    assert np.allclose(signals.population, own)


def test_ours_beat_chance_and_the_order_of_records_does_not_matter(fixture):
    rows = {r.attack: r for r in attack_rows(our_attack_outcomes(fixture, seeds=Seeds(0)), fixture.inside[:2])}
    assert set(rows) == set(our_attack_table())
    assert not any(row.error for row in rows.values())
    # Members gain 1.5 nats over a unit normal: AUC about 0.75 for every attack; 260 records, SE about 0.03.
    assert all(row.values["auc"].mean() > 0.6 for row in rows.values())


def test_mean_is_students_interval():
    values = np.array([0.1, 0.4, 0.35, 0.2])
    mean = Mean.of(values)
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert (mean.value, mean.low, mean.high) == pytest.approx((values.mean(), low, high))


def outcomes_of(name, quality, inside):
    """Scores that tell `quality` of the records from the truth, the rest from a coin."""
    generator = np.random.default_rng(3)
    noise = generator.normal(size=inside.shape)
    return [
        AttackOutcome(name, t, tuple(quality * b + n), tuple(range(b.size)), 0.1)
        for t, (b, n) in enumerate(zip(inside, noise, strict=True))
    ]


def test_families_are_compared_pairwise_with_their_best_peer():
    inside = np.random.default_rng(1).random((8, 400)) < 0.5
    ours, weak, strong = "ours-lira-online-fixed-32", "tf-lira-online-per-example-32", "pg-lira-online-mix-32"

    def compared(our_quality, strong_quality):
        given = [(ours, our_quality), (weak, 0.5), (strong, strong_quality)]
        outcomes = [o for name, quality in given for o in outcomes_of(name, quality, inside)]
        (comparison,) = compare_families(attack_rows(outcomes, inside))
        return comparison

    behind, equal, ahead = compared(1.0, 3.0), compared(3.0, 3.0), compared(3.0, 1.0)
    assert behind.peer == "PrivacyGuard LiRA, mix"
    assert not behind.at_least_equal
    assert behind.differences["auc"].high < 0
    assert equal.at_least_equal
    assert equal.differences["auc"].value == 0
    assert ahead.at_least_equal
    assert ahead.differences["auc"].low > 0


def test_a_rounding_difference_is_no_difference():
    inside = np.random.default_rng(1).random((8, 400)) < 0.5
    ours = outcomes_of("ours-lira-online-fixed-32", 1.0, inside)
    rows = attack_rows([*ours, *outcomes_of("pg-lira-online-mix-32", 1.0, inside)], inside)
    shifted = rows[0].values["auc"] + 1e-5
    rows[0] = type(rows[0])(rows[0].attack, rows[0].info, {**rows[0].values, "auc": shifted}, 0.1)
    (comparison,) = compare_families(rows)
    assert comparison.differences["auc"].high < 0
    assert comparison.at_least_equal


def test_an_attack_is_judged_on_the_records_it_was_not_shown():
    inside = np.random.default_rng(1).random((2, 800)) < 0.5
    judged = tuple(range(1, 800, 2))
    perfect = [AttackOutcome("art-blackbox-rf", t, tuple(inside[t, list(judged)] * 1.0), judged, 0.1) for t in (0, 1)]
    (row,) = attack_rows(perfect, inside)
    assert row.values["auc"].tolist() == [1.0, 1.0]
    assert row.values["tpr_at_1%_fpr"].tolist() == [1.0, 1.0]


def test_nan_scores_and_failures_are_rows_with_an_error():
    inside = np.random.default_rng(1).random((2, 400)) < 0.5
    good = outcomes_of("tf-lira-online-fixed-4", 1.0, inside)
    nan = AttackOutcome("tf-lira-online-fixed-8", 0, (float("nan"),) * 400, tuple(range(400)), 0.1)
    failed = AttackOutcome("art-rule-based", 0, (), (), 0.0, "ImportError: packaging")
    rows = {row.attack: row for row in attack_rows([*good, nan, failed], inside)}
    assert rows["tf-lira-online-fixed-8"].error == "target 0: NaN scores"
    assert "packaging" in rows["art-rule-based"].error
    assert not rows["tf-lira-online-fixed-4"].error
    assert any("error: target 0: NaN" in cell for line in tables.attack_cells(list(rows.values())) for cell in line)
    with pytest.raises(ConfigError, match="nobody"):
        attack_rows([AttackOutcome("nobody", 0, (), (), 0.0)], inside)


def test_every_comparable_family_has_a_row_of_ours_and_a_peer():
    ours = {name: info.family for name, (info, _) in our_attack_table().items()}
    peers = {info.family for info in peer_attack_table().values()}
    assert all(ours[name] == family for family, name in DEFAULTS.items())
    assert set(DEFAULTS) <= peers


def test_the_suite_runs_end_to_end_with_stub_peers(tmp_path, monkeypatch, fixture):
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "__init__.py").write_text("")
    (tmp_path / "worker" / "main.py").write_text(STUB)
    peers = Peers(Path(sys.executable), tmp_path)
    monkeypatch.setattr(suite.Peers, "find", classmethod(lambda cls: peers))
    monkeypatch.setattr(suite, "signals_fixture", lambda seeds: fixture)
    monkeypatch.setattr(suite, "planned_design", lambda seeds: PlannedDesign(700, 0.9, 0.95))
    monkeypatch.setattr(CallInfo, "trials_on", lambda self, name: 200 if self.tool == "LeakGauge" else 3)
    # Two targets are too few to establish an ordering; `test_orderings_...` tries the rule itself.
    monkeypatch.setattr(Ordering, "holds", property(lambda self: True))
    out = tmp_path / "out"
    # The stub's attacks score by position, no better than chance, and its bounds claim nothing: ours are ahead.
    assert suite.run(out) == 0
    document = json.loads((out / "peers.json").read_text())
    assert document["versions"] == {"stub": "1"}
    rows = {row["call"]: row for row in document["coverage"]["rows"]}
    assert set(OUR_CALLS) <= set(rows)
    assert rows["ours-one-run"]["fixtures"]["laplace"]["trials"] == 200
    assert rows["tf-bailey"]["fixtures"]["laplace"] == {
        "trials": 3,
        "claims": 0,
        "mean": 0.0,
        "seconds": 0.5,
        "rate": 0.0,
        "standard_error": pytest.approx(np.sqrt(2) / 3 / np.sqrt(3)),
    }
    assert document["attacks"]["at_least_equal"]
    assert len(document["attacks"]["orderings"]) == len(EXPECTED)
    assert len(document["attacks"]["comparisons"]) == len(DEFAULTS)
    assert read_signals(out / "signals.npz")[0].shadows.shape == (32, 260, 5)
    text = (out / "peers.md").read_text()
    assert "| LeakGauge | one-run, guesses planned | guesses | 200 |" in text
    assert "Versions: stub 1" in text


def test_orderings_need_the_auc_beyond_its_interval_and_the_tpr_on_average():
    names = {**peer_attack_table(), **{name: info for name, (info, _) in our_attack_table().items()}}
    assert {e.better for e in EXPECTED} | {e.worse for e in EXPECTED} <= set(names)
    expected = next(e for e in EXPECTED if e.better == "ours-lira-online-bayesian-4")

    def row(name, auc, tpr):
        return AttackRow(name, names[name], {"auc": np.array(auc), "tpr_at_1%_fpr": np.array(tpr)}, 0.1)

    worse = row(expected.worse, [0.6, 0.61, 0.62, 0.6], [0.1, 0.1, 0.1, 0.1])
    cases = {
        (0.7, 0.7, 0.71, 0.7): True,  # clearly ahead
        (0.5, 0.7, 0.71, 0.7): False,  # ahead on average only
    }
    for auc, holds in cases.items():
        for tpr, higher in (((0.1, 0.12, 0.1, 0.1), True), ((0.1, 0.08, 0.1, 0.1), False)):
            (found,) = orderings([row(expected.better, auc, tpr), worse])
            assert found.holds == (holds and higher)
            assert found.to_json()["statement"] == expected.statement
    broken = AttackRow(expected.better, names[expected.better], {}, 0.1, "error")
    assert orderings([broken, worse]) == []


def test_the_suite_fails_when_a_peer_is_ahead(tmp_path, monkeypatch, fixture):
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "__init__.py").write_text("")
    (tmp_path / "worker" / "main.py").write_text(
        STUB.replace("[0.0] * trials", "[float(fixture == 'laplace')] * trials")
    )
    peers = Peers(Path(sys.executable), tmp_path)
    monkeypatch.setattr(suite, "planned_design", lambda seeds: PlannedDesign(700, 0.9, 0.95))
    monkeypatch.setattr(CallInfo, "trials_on", lambda self, name: 30)
    document, _ = suite.run_coverage(peers, seeds=Seeds(1))
    assert not document["ahead"]
