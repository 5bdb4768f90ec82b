"""`text-canary` and `text-rank`: what they ask of a trainer, how they score, and what they certify."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leakgauge.attacks.canary.text import KINDS, TextCanary
from leakgauge.attacks.canary.text_rank import RANKS, TextRank
from leakgauge.audit.accounting import dp_sgd_claim, group_claim
from leakgauge.audit.bounds import OneRun, Rank
from leakgauge.audit.canaries import CanaryAttack, CanaryEvidence, CanarySet, Witnessed
from leakgauge.audit.design import CoinTrials, coin_flips
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.games import Game, Stage
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Access, Claim, Rows, Trained, Unit

DELTA = 1e-5
CLAIM = dp_sgd_claim(noise_multiplier=8.0, sample_rate=1.0, steps=1, delta=DELTA)
DATA = Rows(np.zeros((8, 4), np.int64), np.zeros(8, np.int64), tuple(map(str, range(8))), 1)


def evidence(transcript: dict[str, Any], count: int, noise: float = 1.0) -> CanaryEvidence:
    # Without noise there need be no sampling rate either.
    public = {"sample_rate": 1.0 if noise else 0.0, "noise_multiplier": noise, "steps": 2.0}
    return CanaryEvidence(tuple(map(str, range(count))), transcript, public, Access.TRANSCRIPT, Unit.RECORD)


@pytest.mark.parametrize("kind", KINDS)
def test_a_canary_set_says_what_to_make_and_nothing_else(kind):
    attack = TextCanary(kind=kind, canaries=12, repetitions=2)
    assert isinstance(attack, CanaryAttack)
    asked = attack.canary_set(np.arange(12) < 4)
    assert asked.kind == f"text-{kind}"
    assert (asked.unit, asked.view, asked.parameters["repetitions"]) == (Unit.RECORD, "final-model", 2)
    # What is made does not depend on the coins, and the parameters tell stored runs apart.
    assert asked.parameters == attack.canary_set(np.zeros(12, bool)).parameters
    assert hash(str(sorted(asked.parameters.items())))
    if kind == "templated":
        assert len(set(asked.parameters["beginnings"])) == 12


def test_scores_follow_their_definitions():
    own, before = np.array([-3.0, -2.0, -9.0]), np.array([-5.0, -2.5, -9.0])
    others, others_before = np.array([-4.0, -4.0, -8.0]), np.array([-5.0, -5.0, -8.5])
    seen = evidence({"own": own, "own-before": before, "others": others, "others-before": others_before}, 3)
    wanted = {"none": [-3, -2, -9], "start": [2, 0.5, 0], "others": [1, -0.5, -0.5]}
    for calibration, values in wanted.items():
        attack = TextCanary(calibration=calibration)
        assert attack.score_canaries(seen, seeds=Seeds(0)).values.tolist() == pytest.approx(values)
    default = TextCanary().score_canaries(seen, seeds=Seeds(0)).values
    assert default.tolist() == pytest.approx(wanted["others"])
    plain = TextCanary(kind="random-token").score_canaries(seen, seeds=Seeds(0)).values
    assert plain.tolist() == pytest.approx(wanted["start"])


def test_the_step_view_sums_the_log_likelihood_ratio():
    projections = np.array([[0.9, 0.1], [1.2, -0.4]], np.float32)
    attack = TextCanary(view="steps", statistic="llr")
    assert attack.needs.access is Access.TRANSCRIPT
    values = attack.score_canaries(evidence({"projections": projections}, 2), seeds=Seeds(0)).values
    # At q = 1 and sigma = 1: the sum of x - 1/2.
    assert values.tolist() == pytest.approx([1.1, -1.3], abs=1e-6)
    bare = attack.score_canaries(evidence({"projections": projections}, 2, noise=0.0), seeds=Seeds(0)).values
    assert bare.tolist() == pytest.approx([2.1, -0.3], abs=1e-6)
    with pytest.raises(IncompatibleError, match="projections"):
        attack.score_canaries(evidence({}, 2), seeds=Seeds(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "hot"}, "kind"),
        ({"canaries": 5}, "canaries"),
        ({"repetitions": 0}, "repetitions"),
        ({"kind": "random-token", "calibration": "others"}, "use 'start'"),
        ({"temperature": 0.0}, "temperature"),
        ({"view": "updates"}, "view"),
        ({"statistic": "median"}, "statistic"),
        ({"template": "no braces"}, "template"),
        ({"tokens": 1}, "tokens"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        TextCanary(**settings)


def one_run(rng: np.random.Generator, noise: float, copies: int = 1) -> float:
    """The judged bound of an audit of the Gaussian mechanism: each canary has its own noisy sum."""
    attack = TextCanary(canaries=400)
    inside = rng.random(400) < 0.5
    gain = copies * inside + noise * rng.normal(size=400)
    seen = evidence({"own": gain, "own-before": 0 * gain, "others": 0 * gain, "others-before": 0 * gain}, 400)
    scores = attack.score_canaries(seen, seeds=Seeds(0))
    counts = CoinTrials(scores.values, inside, scores.records).count(150)
    return OneRun().certify(counts, delta=DELTA, confidence=0.999).epsilon


def test_a_correct_mechanism_is_never_above_its_claim_and_broken_ones_are():
    # Gaussian noise 8 on sensitivity 1: 100 audits, each above its claim with probability at most 0.001 by the bound's
    # proof, so that a sound implementation fails this test at most one time in ten, at fixed seeds never. In truth a
    # bound loses so much to m = 400 that a false alarm is far rarer.
    rng = np.random.default_rng(7)
    promised = CLAIM.epsilon_at(DELTA)
    assert sum(one_run(rng, 8.0) > promised for _ in range(100)) == 0
    assert one_run(rng, 0.2) > promised
    assert one_run(rng, 8.0, copies=30) > promised
    assert one_run(rng, 8.0, copies=30) <= group_claim(CLAIM, 30).epsilon_at(DELTA)


@dataclass(frozen=True)
class Noisy:
    """A host that releases each candidate's count with Gaussian noise: the mechanism that its claim is about."""

    noise: float = 1.0
    nominal_rows: int | None = None
    claim: Claim | None = None

    def hosts(self) -> tuple[str, ...]:
        """Texts."""
        return tuple(f"text-{kind}" for kind in KINDS)

    def planned_claim(self, expected_rows: int) -> Claim | None:
        """Given."""
        return self.claim

    def planned_canary_claim(self, expected_rows: int, canaries: CanarySet) -> Claim | None:
        """Given."""
        return None if self.claim is None else group_claim(self.claim, canaries.parameters["repetitions"])

    def fit_with_canaries(
        self, data: Rows, rows: Any, canaries: CanarySet, *, seeds: Seeds, device: str, **given: Any
    ) -> Witnessed:
        """Counts plus noise."""
        assert self.nominal_rows is not None
        assert canaries.parameters["expected"] == 1
        assert canaries.inside.sum() == 1
        rng = seeds.generator()
        count = len(canaries.inside)
        gain = canaries.parameters["repetitions"] * canaries.inside + self.noise * rng.normal(size=count)
        still = np.zeros(count)
        return Witnessed({"own": gain, "own-before": still, "others": still, "others-before": still}, self.claim)


def stage(host: Any, folder: Path) -> Stage:
    def target() -> Trained:
        raise AssertionError("the target plays no part")

    return Stage(host, DATA, DATA, np.ones(8, bool), target, None, Access.LOGITS, "cpu", 0.95, folder)


def hit_rate(noise: float, pool: int) -> float:
    """P[the secret's noisy count is the highest]: integral of the normal density times Phi^(pool - 1)."""
    from scipy.integrate import quad
    from scipy.stats import norm

    inner = lambda x: norm.pdf(x, 1 / noise) * norm.cdf(x) ** (pool - 1)  # noqa: E731
    return float(quad(inner, -10, 10 + 1 / noise)[0])


def test_rank_counts_runs_whose_secret_comes_first(tmp_path):
    game = TextRank(runs=400, pool=50, kind="random-token")
    assert isinstance(game, Game)
    outcome = game.play(stage(Noisy(0.4), tmp_path), seeds=Seeds(3))
    trials = outcome.trials
    assert trials is not None
    # Binomial with a known rate: beyond four deviations once in 16 000.
    rate = hit_rate(0.4, 50)
    assert abs(trials.counts.hits - 400 * rate) < 4 * math.sqrt(400 * rate * (1 - rate))
    assert (trials.counts.runs, trials.counts.pool, trials.counts.top) == (400, 50, 1)
    assert outcome.measures["hits"].value == trials.counts.hits / 400
    # A candidate drawn afresh is first in one run of fifty, whatever the model saw.
    assert abs(trials.redrawn.hits - 8) < 4 * math.sqrt(8)


def test_rank_never_exceeds_a_true_claim_and_catches_too_little_noise(tmp_path):
    noise = 1.0
    claim = dp_sgd_claim(noise_multiplier=noise, sample_rate=1.0, steps=1, delta=DELTA)

    def bound(number: int, true_noise: float) -> float:
        folder = tmp_path / f"{number}-{true_noise}"
        folder.mkdir()
        game = TextRank(runs=60, pool=200, kind="random-token")
        trials = game.play(stage(Noisy(true_noise, claim=claim), folder), seeds=Seeds(number)).trials
        assert trials is not None
        assert trials.claim == claim
        return Rank().certify(trials.counts, delta=trials.delta, confidence=0.999).epsilon

    # 100 audits at 0.999: a sound one fails at most one time in ten, and at these fixed seeds never.
    assert max(bound(number, noise) for number in range(100)) <= claim.epsilon_at(DELTA)
    assert bound(0, 0.05) > claim.epsilon_at(DELTA)


def test_rank_resumes_after_the_last_whole_block(tmp_path):
    game = TextRank(runs=60, pool=20, kind="random-token")
    whole = tmp_path / "whole"
    whole.mkdir()
    wanted = game.play(stage(Noisy(0.5), whole), seeds=Seeds(3))
    ranks = json.loads((whole / RANKS).read_text())
    part = tmp_path / "part"
    part.mkdir()
    (part / RANKS).write_text(json.dumps(ranks[:25]))

    @dataclass(frozen=True)
    class Counting(Noisy):
        def fit_with_canaries(self, *args: Any, **given: Any) -> Witnessed:
            asked.append(1)
            return super().fit_with_canaries(*args, **given)

    asked: list[int] = []
    again = game.play(stage(Counting(0.5), part), seeds=Seeds(3))
    assert len(asked) == 35
    assert again == wanted


def test_rank_compares_repeated_texts_with_the_claim_on_groups_only(tmp_path):
    game = TextRank(runs=10, pool=20, kind="random-token", repetitions=3)
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    trials = game.play(stage(Noisy(claim=CLAIM), tmp_path / "with"), seeds=Seeds(1)).trials
    assert trials is not None
    assert trials.claim == group_claim(CLAIM, 3)
    assert trials.group == 3
    assert game.play(stage(Noisy(), tmp_path / "without"), seeds=Seeds(1)).trials is None


def test_the_plan_knows_the_ceiling_of_ranks():
    game = TextRank(runs=100, pool=1000)
    trials = game.planned(Noisy(nominal_rows=8, claim=CLAIM))
    assert trials is not None
    ceiling = Rank().certify(trials.counts, delta=trials.delta, confidence=0.999).ceiling
    assert math.log(1000) - 0.1 < ceiling < math.log(1000)
    assert game.planned(replace(Noisy(), claim=CLAIM)) is None


def test_rank_refuses_other_trainers_and_impossible_settings(tmp_path):
    with pytest.raises(IncompatibleError, match="language"):
        TextRank().play(stage(object(), tmp_path), seeds=Seeds(1))
    with pytest.raises(ConfigError, match="top"):
        TextRank(pool=10, top=11)


def test_coins_are_the_runners_own():
    # The set's ids do not depend on the coins, so that fair coins can be flipped for them.
    attack = TextCanary(canaries=50)
    ids = attack.canary_set(np.zeros(50, bool)).ids
    inside = coin_flips(ids, 1, seeds=Seeds(1)).inside[0]
    assert attack.canary_set(inside).ids == ids


AUDIT = """
[audit]
name = "texts"
seed = 5
access = ["transcript"]
[data]
name = "prose-private"
text_encoding = "bytes"
text_length = 8
[design]
audit_records = 24
[[trainer]]
id = "private"
name = "dp-language"
layers = 1
width = 8
heads = 2
length = 8
noise_multiplier = 3.0
epochs = 2
batch_size = 12
max_grad_norm = 0.1
[[attack]]
id = "model"
name = "text-canary"
kind = "random-token"
canaries = 40
guesses = 20
alpha_share = 0.4
[[attack]]
id = "every-step"
name = "text-canary"
kind = "random-token"
view = "steps"
repetitions = 2
canaries = 40
guesses = 20
alpha_share = 0.3
[[attack]]
id = "runs"
name = "text-rank"
kind = "random-token"
runs = 3
pool = 50
alpha_share = 0.3
"""


@pytest.mark.slow
def test_the_runner_audits_with_texts_and_writes_every_finding(tmp_path):
    from leakgauge.audit.conduct import conduct

    path = tmp_path / "audit.toml"
    path.write_text(AUDIT)
    conduct(path, tmp_path / "out", [], device="cpu", quiet=True, command="test")
    document = json.loads((tmp_path / "out" / "audit.json").read_text())
    found = {f["attack"]: f for f in document["findings"]}
    assert {f["rule"] for f in document["findings"]} == {"canary.text-canary", "exposure.text-rank"}
    assert set(found) == {"model", "every-step", "runs"}
    single, groups = found["model"], found["every-step"]
    assert groups["claim"]["epsilon"] > single["claim"]["epsilon"]
    for finding in document["findings"]:
        assert finding["judged"]["epsilon"] <= finding["claim"]["epsilon"]
        assert finding["judged"]["ceiling"] > 0
        assert finding["verdict"] in {"underpowered", "consistent"}
    assert found["runs"]["bound"]["method"] == "rank"
    assert groups["threat"]["bound"].startswith("holds for groups of 2")


def test_repeated_canaries_are_refused_where_nothing_is_claimed_for_groups(tmp_path):
    from leakgauge.audit.config import load_config
    from leakgauge.audit.setting import settle

    path = tmp_path / "audit.toml"
    plain = '[[trainer]]\nname = "language"\nlength = 8\n[[attack]]\nid = "model"'
    path.write_text(AUDIT.replace('[[attack]]\nid = "model"', plain, 1))
    with pytest.raises(IncompatibleError, match="repetitions = 2 bounds groups of 2 records, but 'language' claims"):
        settle(load_config(path))
