from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from leakgauge.attacks.canary import MislabelledCanary, make_canaries
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.metrics import auc
from leakgauge.audit.registry import ATTACKS
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows


def rows(features: np.ndarray, labels: np.ndarray, classes: int) -> Rows:
    return Rows(features, labels.astype(np.int64), tuple(f"p{i}" for i in range(len(labels))), classes, "public")


@pytest.fixture
def public() -> Rows:
    generator = np.random.default_rng(1)
    return rows(generator.normal(size=(120, 4, 2)).astype(np.float32), generator.integers(0, 5, 120), 5)


def pairs(data: Rows) -> list[tuple[bytes, int]]:
    return [(f.tobytes(), int(y)) for f, y in zip(data.features, data.labels, strict=True)]


@pytest.mark.parametrize("count", [1, 50, 120, 300, 480])
def test_canaries_are_distinct_wrong_and_named(public, count) -> None:
    made = make_canaries(public, count, seeds=Seeds(3))
    assert len(made) == count
    assert len(set(pairs(made))) == count
    assert not set(pairs(made)) & set(pairs(public))
    assert {f for f, _ in pairs(made)} <= {f for f, _ in pairs(public)}
    assert made.records[0] == "canary-000000"
    assert made.features.dtype == public.features.dtype
    assert made.labels.dtype == np.int64
    # No row serves twice before every row served once.
    assert len({f for f, _ in pairs(made)}) == min(count, 120)


def test_canaries_depend_on_seed_and_rows_alone(public) -> None:
    assert (
        make_canaries(public, 60, seeds=Seeds(3)).fingerprint()
        == make_canaries(public, 60, seeds=Seeds(3)).fingerprint()
    )
    assert (
        make_canaries(public, 60, seeds=Seeds(3)).fingerprint()
        != make_canaries(public, 60, seeds=Seeds(4)).fingerprint()
    )


def test_wrong_labels_are_uniform() -> None:
    # One chi-square test at level 1e-4 on a fixed seed.
    generator = np.random.default_rng(5)
    data = rows(generator.normal(size=(4000, 3)), np.zeros(4000, dtype=np.int64), 5)
    counts = np.bincount(make_canaries(data, 4000, seeds=Seeds(1)).labels, minlength=5)
    assert counts[0] == 0
    assert chisquare(counts[1:]).pvalue > 1e-4


def test_duplicates_with_different_labels_exclude_both_labels() -> None:
    features = np.array([[1.0], [1.0], [2.0]])
    data = rows(features, np.array([0, 1, 0]), 3)
    made = make_canaries(data, 3, seeds=Seeds(1))
    assert sorted(pairs(made)) == sorted(
        [(features[0].tobytes(), 2), (features[2].tobytes(), 1), (features[2].tobytes(), 2)]
    )
    with pytest.raises(ConfigError, match="4 asked for, public allows 3"):
        make_canaries(data, 4, seeds=Seeds(1))


def test_text_rows_keep_their_token_ids() -> None:
    data = rows(np.arange(20).reshape(10, 2), np.zeros(10), 2)
    made = make_canaries(data, 10, seeds=Seeds(1))
    assert made.features.dtype == data.features.dtype
    assert (made.labels == 1).all()


def test_impossible_counts_are_refused(public) -> None:
    with pytest.raises(ConfigError, match="at most 480"):
        make_canaries(public, 481, seeds=Seeds(1))
    with pytest.raises(ConfigError, match="at least 1"):
        make_canaries(public, 0, seeds=Seeds(1))


def test_calibration_takes_off_what_outsiders_show(evidence_from_logits, paired) -> None:
    generator = np.random.default_rng(2)
    level = generator.normal(size=3000) * 3
    inside, truth = paired(generator, 8, 3000), generator.random(3000) < 0.5
    shadow = level + 1.5 * inside + generator.normal(size=(8, 3000))
    target = level + 1.5 * truth + generator.normal(size=3000)
    evidence = evidence_from_logits(target, shadow, inside)
    plain = MislabelledCanary().score(evidence, seeds=Seeds(1)).values
    calibrated = MislabelledCanary(shadows=8).score(evidence, seeds=Seeds(1)).values
    assert np.allclose(plain, target)
    out = np.nanmean(np.where(inside, np.nan, shadow), axis=0)
    assert np.allclose(calibrated, target - out)
    assert auc(calibrated, truth) > auc(plain, truth) + 0.1


def test_canaries_that_every_shadow_saw(evidence_from_logits) -> None:
    inside = np.array([[True, True, False], [True, False, True]])
    shadow = np.array([[9.0, 9.0, 1.0], [9.0, 3.0, 9.0]])
    evidence = evidence_from_logits(np.zeros(3), shadow, inside)
    assert np.allclose(MislabelledCanary(shadows=2).score(evidence, seeds=Seeds(1)).values, [-2, -3, -1])
    every = evidence_from_logits(np.zeros(3), shadow, np.ones_like(inside))
    with pytest.raises(ConfigError, match="half of the shadows"):
        MislabelledCanary(shadows=2).score(every, seeds=Seeds(1))
    with pytest.raises(IncompatibleError, match="needs 4 shadow models"):
        MislabelledCanary(shadows=4).score(evidence, seeds=Seeds(1))


@pytest.mark.parametrize("parameters", [{"canaries": 0}, {"shadows": -1}, {"shadows": 1}, {"canaries": "many"}])
def test_bad_parameters_are_named(parameters) -> None:
    with pytest.raises(ConfigError, match=next(iter(parameters))):
        MislabelledCanary(**parameters)


@pytest.mark.parametrize("name", ["loss", "lira", "rmia", "canary"])
def test_registered_attacks_load_and_crafting_is_declared(name) -> None:
    attack = ATTACKS.load(name)()
    assert attack.name == name
    assert getattr(attack, "crafts_records", False) == (name == "canary")
    with pytest.raises(TypeError):
        ATTACKS.load(name)(no_such_parameter=1)
