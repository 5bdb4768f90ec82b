from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from leakgauge.attacks.membership import Lira, LossThreshold, Rmia
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.exposure import exposure, write_risk
from leakgauge.audit.metrics import auc, clopper_pearson, record_risk, worst_slices
from leakgauge.audit.restaging import difficulty, opponents_of, plays, usual_slices, with_shadows
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Answers, Evidence
from leakgauge.reports.model.exhibits import Slice

SEEDS = Seeds(9)


def models(count: int, records: int, *, gain: np.ndarray | float, seed: int = 0):
    """Scores normal with mean `gain` (records,) for members, and membership in complementary pairs."""
    generator = np.random.default_rng(seed)
    inside = np.empty((count, records), dtype=bool)
    inside[0::2] = generator.random((count // 2, records)) < 0.5
    inside[1::2] = ~inside[0::2]
    return generator.normal(size=(count, records)) + gain * inside, inside


def ids(count: int) -> tuple[str, ...]:
    return tuple(f"r{i}" for i in range(count))


def test_counts_equal_a_loop_over_models_and_records() -> None:
    scores, inside = models(10, 240, gain=1.0)
    risk = record_risk(scores, inside, ids(240), fpr=0.05)
    for i in (0, 5, 100):
        hits, ranks = 0, []
        for j in np.flatnonzero(inside[:, i]):
            outsiders = np.sort(scores[j][~inside[j]])[::-1]
            hits += scores[j, i] > outsiders[int(0.05 * len(outsiders))]
            ranks.append((outsiders < scores[j, i]).mean())
        low, high = clopper_pearson(hits, len(ranks), 0.95)
        assert (risk.hits[i], risk.plays[i]) == (hits, len(ranks))
        assert (risk.low[i], risk.high[i]) == (low, high)
        reach = stats.t.ppf(0.975, len(ranks) - 1) * np.std(ranks, ddof=1) / np.sqrt(len(ranks))
        assert risk.rank[i] == pytest.approx(np.mean(ranks))
        assert risk.rank_high[i] == pytest.approx(min(np.mean(ranks) + reach, 1))


def test_limits_cover_the_true_risk_of_each_record() -> None:
    # True rate of a record with gain g at the threshold z(0.99): sf(2.326 - g), but for the estimated threshold.
    gain = np.linspace(0, 4, 400)
    scores, inside = models(64, 400, gain=gain)
    risk = record_risk(scores, inside, ids(400), fpr=0.05)
    truth = stats.norm.sf(stats.norm.isf(0.05) - gain)
    covered = (risk.low <= truth + 0.02) & (truth - 0.02 <= risk.high)
    assert covered.mean() > 0.93


def test_the_riskiest_are_chosen_and_measured_on_different_models() -> None:
    # No record is riskier than another: the top 1 % must not look worse than 5 %; 40 models, standard error 0.01.
    scores, inside = models(40, 400, gain=0.0)
    null = record_risk(scores, inside, ids(400), fpr=0.05)
    top = dict(null.table)[0.01]
    assert top.low <= 0.05 <= top.high
    assert np.sort(null.rate)[-4:].mean() > 0.12  # what choosing and measuring on the same models would have said
    assert null.certain == 0
    scores, inside = models(40, 400, gain=np.where(np.arange(400) < 40, 5.0, 0.0), seed=1)
    risk = record_risk(scores, inside, ids(400), fpr=0.05)
    assert dict(risk.table)[0.1].low > 0.9
    assert 30 <= risk.certain <= 40
    assert set(risk.columns()["record"][:40]) == {f"r{i}" for i in range(40)}
    assert risk.measures()["record_risk_top_10_percent"]["n"] == 40


def test_a_record_in_no_model_has_no_risk_and_bad_input_is_refused() -> None:
    scores, inside = models(6, 300, gain=1.0)
    inside[:, 3] = False
    risk = record_risk(scores, inside, ids(300))
    assert risk.plays[3] == 0
    assert np.isnan([risk.rate[3], risk.rank[3], risk.low[3]]).all()
    with pytest.raises(ConfigError, match="not measurable"):
        record_risk(scores, inside, ids(300), fpr=1e-4)
    with pytest.raises(ConfigError, match="at least 4 models"):
        record_risk(scores[:2], inside[:2], ids(300))
    with pytest.raises(ConfigError, match="3 records"):
        record_risk(scores, inside, ids(3))


def evidence(shadows: int = 8, records: int = 240, *, answers: bool = False):
    generator = np.random.default_rng(2)
    inside = models(shadows, records, gain=0.0, seed=3)[1]
    truth = generator.random(records) < 0.5
    level = generator.normal(size=records) * 2
    phi = level + 1.5 * np.vstack([truth, inside]) + generator.normal(size=(shadows + 1, records))
    logs = np.stack([-np.logaddexp(0, phi), -np.logaddexp(0, -phi)], axis=-1)
    asked = {"q": Answers(phi[0], phi[1:], phi[0, :0], phi[1:, :0])} if answers else {}
    public = logs[:, :120]
    return Evidence(
        np.ones(records, dtype=np.int64),
        ids(records),
        logs[0],
        logs[1:],
        inside,
        np.ones(120, dtype=np.int64),
        public[0],
        public[1:],
        answers=asked,
    )


@pytest.mark.parametrize("attack", [Lira(shadows=8), Rmia(references=8), LossThreshold()], ids=lambda a: a.name)
def test_every_shadow_plays_against_the_others_but_its_complement(attack) -> None:
    seen = evidence()
    played = plays(attack, seen, seeds=SEEDS)
    assert played.scores.shape == (8, 240)
    assert np.array_equal(played.inside, seen.shadow_inside)
    assert auc(played.scores.ravel(), played.inside.ravel()) > 0.6
    # Player 2 by hand: its complement is 3.
    others = [0, 1, 4, 5, 6, 7]
    alone = replace(
        seen,
        target=seen.shadows[2],
        shadows=seen.shadows[others],
        shadow_inside=seen.shadow_inside[others],
        population_target=seen.population_shadows[2],
        population_shadows=seen.population_shadows[others],
    )
    by_hand = with_shadows(attack, 6).score(alone, seeds=SEEDS).values
    assert np.array_equal(played.scores[2], by_hand)


def test_answers_to_queries_change_places_too() -> None:
    from leakgauge.audit.restaging import restaged

    seen = evidence(answers=True)
    moved = restaged(seen, 3, opponents_of(3, seen.shadow_inside))
    assert np.array_equal(moved.answers["q"].target, seen.answers["q"].shadows[3])
    assert len(moved.answers["q"].shadows) == 6
    with pytest.raises(IncompatibleError, match="no shadow can play"):
        plays(Lira(shadows=4), replace(seen, shadow_inside=np.ones_like(seen.shadow_inside)), seeds=SEEDS)


def test_difficulty_reads_outsiders_only_and_slices_partition() -> None:
    seen = evidence()
    hard = difficulty(seen)
    i = 17
    assert hard[i] == pytest.approx(-seen.shadows[~seen.shadow_inside[:, i], i, 1].mean())
    everywhere = seen.shadow_inside.copy()
    everywhere[:, 0] = True
    assert np.isnan(difficulty(replace(seen, shadow_inside=everywhere))[0])
    slices = usual_slices(seen, tuple("ab"[i % 2] for i in range(240)))
    assert slices["group a"].sum() == 120
    tenths = [mask for name, mask in slices.items() if name.startswith("difficulty")]
    assert np.array_equal(np.sum(tenths, axis=0), np.ones(240))
    assert hard[tenths[0]].max() <= hard[tenths[9]].min()


def test_worst_slices_hold_together_and_fit_the_report() -> None:
    # 20 null slices: a limit above 0.5 in at most 5 % of 100 trials; 12 or more has probability 0.4 %.
    generator = np.random.default_rng(6)
    wrong = 0
    for _ in range(100):
        inside = generator.random(2000) < 0.5
        groups = generator.integers(0, 20, 2000)
        rows = worst_slices(generator.normal(size=2000), inside, {f"g{g}": groups == g for g in range(20)})
        wrong += rows[0]["low"] > 0.5
    assert wrong < 12
    scores = generator.normal(size=2000) + 2 * (inside & (groups == 7))
    masks = {f"g{g}": groups == g for g in range(20)} | {"tiny": np.arange(2000) < 10}
    rows = worst_slices(scores, inside, masks, most=3)
    assert rows[0]["slice"] == "g7"
    assert len(rows) == 3
    assert "tiny" not in {r["slice"] for r in worst_slices(scores, inside, masks, most=50)}
    for row in rows:
        Slice(**row)


def test_worst_slices_refuse_masks_of_another_length() -> None:
    with pytest.raises(ConfigError, match="slice 'x'"):
        worst_slices(np.zeros(10), np.arange(10) < 5, {"x": np.ones(9, dtype=bool)})


def test_exposure_has_slices_and_risk_and_says_why_not(tmp_path) -> None:
    import pyarrow.parquet as pq

    from leakgauge.reports.model import Measure

    seen = evidence(records=600)
    truth = np.random.default_rng(2).random(600) < 0.5
    attack = Lira(shadows=8)
    scores = attack.score(seen, seeds=SEEDS)
    found = exposure(attack, seen, scores, truth, seeds=SEEDS, groups=tuple("ab"[i % 2] for i in range(600)))
    assert {"group a", "class 1"} <= {row["slice"] for row in found.slices}
    assert found.risk is not None
    for measure in found.measures.values():
        Measure(**measure)
    write_risk(tmp_path / "risk" / "lira.parquet", found.risk)
    table = pq.read_table(tmp_path / "risk" / "lira.parquet")
    assert table.num_rows == 600
    assert table["rate"][0].as_py() == np.nanmax(found.risk.rate)
    few = exposure(LossThreshold(), seen, scores, truth, seeds=SEEDS)
    assert few.risk is None
    assert "too long" in str(few.reason)
    two = exposure(Lira(shadows=2), seen, scores, truth, seeds=SEEDS)
    assert two.reason == "needs 8 shadows, the attack reads 2"
    strict = exposure(attack, seen, scores, truth, seeds=SEEDS, fpr=1e-4)
    assert strict.risk is None
    assert "not measurable" in str(strict.reason)
