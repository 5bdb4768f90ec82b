"""Every peer's membership attacks on the same signals. Only the tool's own work is timed, not the conversion.

Where a tool asks for a summary of the shadows (means, standard deviations), it is computed from the signals as the
tool's documentation asks.
"""

from __future__ import annotations

import importlib
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1e-45


@dataclass(frozen=True)
class Signals:
    """One target. Probabilities of the labelled class and logits, (records,) and (shadows, records), population alike.

    `probs` (records, classes) of the target; `inside` bool (records,) is the truth, which only tools that must be fed
    members and non-members apart get to see; it enters none of their scores except where `judged` says so.
    """

    probs: NDArray[Any]
    labels: NDArray[Any]
    inside: NDArray[Any]
    logit: NDArray[Any]
    shadow_logit: NDArray[Any]
    probability: NDArray[Any]
    shadow_probability: NDArray[Any]
    shadow_inside: NDArray[Any]
    population: NDArray[Any]
    shadow_population: NDArray[Any]

    @classmethod
    def of(cls, arrays: dict[str, NDArray[Any]], target: int, targets: int) -> Signals:
        """From `probs` (targets + shadows, records, classes) and the rest of signals.npz; targets come first."""
        probs, labels = arrays["probs"].astype(np.float64), arrays["labels"]
        population = _own(arrays["population_probs"].astype(np.float64), arrays["population_labels"])
        own = _own(probs, labels)
        keep = np.arange(probs.shape[2])[None, :] != labels[:, None]
        others = probs[:, keep].reshape(*own.shape, probs.shape[2] - 1).sum(axis=2)
        logit = np.log(own + SMALLEST) - np.log(others + SMALLEST)
        return cls(
            probs=probs[target],
            labels=labels,
            inside=arrays["inside"][target],
            logit=logit[target],
            shadow_logit=logit[targets:],
            probability=own[target],
            shadow_probability=own[targets:],
            shadow_inside=arrays["inside"][targets:],
            population=population[target],
            shadow_population=population[targets:],
        )


@dataclass(frozen=True)
class Scored:
    """Scores of the records at `judged`, higher for more likely inside, and the seconds they took."""

    scores: NDArray[Any]
    judged: NDArray[Any]
    seconds: float


Attack = Callable[[Signals], Scored]


def peer_attacks() -> dict[str, Attack]:
    """All attacks by name."""
    tensorflow = {
        f"tf-lira-{option}-{name}-{shadows}": _tensorflow(option, fixed, shadows)
        for option in ("online", "offline")
        for name, fixed in (("fixed", True), ("per-example", False))
        for shadows in (4, 8, 16, 32)
    }
    guard = {
        f"pg-lira-online-{name}-{shadows}": _guard_lira(online=True, deviation=deviation, shadows=shadows)
        for name, deviation in (("global", "global"), ("mix", "mix"), ("per-example", None))
        for shadows in (4, 8, 16, 32)
    }
    guard |= {
        f"pg-lira-offline-{shadows}": _guard_lira(online=False, deviation="shadows_out", shadows=shadows)
        for shadows in (4, 8, 16, 32)
    }
    guard |= {
        f"pg-rmia-{mode}-{pairs}": _guard_rmia(online=mode == "online", pairs=pairs, tuned=mode == "offline-tuned")
        for mode in ("online", "offline", "offline-tuned")
        for pairs in (1, 2, 4, 8)
    }
    art = {f"art-blackbox-{kind}": _art_black_box(kind) for kind in ("rf", "gb", "lr", "nn")}
    return {**tensorflow, **guard, **art, "art-rule-based": _art_rule_based}


def _own(probs: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    return np.take_along_axis(probs, labels[None, :, None], axis=2)[:, :, 0]


def _all(signals: Signals) -> NDArray[Any]:
    return np.arange(len(signals.labels))


def _tensorflow(option: str, fixed: bool, shadows: int) -> Attack:
    sys.skip_tf_privacy_import = True  # type: ignore[attr-defined]

    def attack(signals: Signals) -> Scored:
        module = importlib.import_module(
            "tensorflow_privacy.privacy.privacy_tests.membership_inference_attack.advanced_mia"
        )
        logit, inside = signals.shadow_logit[:shadows], signals.shadow_inside[:shadows]
        records = _all(signals)
        stat_in = [logit[inside[:, i], i][:, None] for i in records]
        stat_out = [logit[~inside[:, i], i][:, None] for i in records]
        how = "both" if option == "online" else "out"
        started = time.perf_counter()
        low = module.compute_score_lira(signals.logit[:, None], stat_in, stat_out, how, fixed)
        # Its scores are lower for members.
        return Scored(-low, records, time.perf_counter() - started)

    return attack


def _guard_lira(*, online: bool, deviation: str | None, shadows: int) -> Attack:
    def attack(signals: Signals) -> Scored:
        module = importlib.import_module("privacy_guard.attacks.lira_attack")
        inside = signals.shadow_inside[:shadows]
        columns = {"score_orig": signals.logit}
        suffixes = (("_in", inside), ("_out", ~inside)) if online else (("", ~inside),)
        for suffix, side in suffixes:
            chosen = np.where(side, signals.shadow_logit[:shadows], np.nan)
            columns[f"score_mean{suffix}"] = np.nanmean(chosen, axis=0)
            columns[f"score_std{suffix}"] = np.nanstd(chosen, axis=0, ddof=1)
        run = module.LiraAttack(
            *_member_frames(columns, signals.inside),
            row_aggregation=_no_aggregation(),
            use_fixed_variance=deviation is not None,
            std_dev_type=deviation or "mix",
            online_attack=online,
        )
        return _guard_scores(run, signals)

    return attack


def _guard_rmia(*, online: bool, pairs: int, tuned: bool) -> Attack:
    """`pairs` complementary pairs of reference models: every record is outside exactly `pairs` of them."""

    def attack(signals: Signals) -> Scored:
        module = importlib.import_module("privacy_guard.attacks.rmia_attack")
        columns = {"score_orig": signals.probability}
        population = {"score_orig": signals.population}
        for j in range(2 * pairs):
            columns[f"score_ref_{j}"] = signals.shadow_probability[j]
            columns[f"member_ref_{j}"] = signals.shadow_inside[j]
            population[f"score_ref_{j}"] = signals.shadow_population[j]
            population[f"member_ref_{j}"] = np.zeros(len(signals.population), dtype=bool)
        frame = importlib.import_module("pandas").DataFrame(population)
        run = module.RmiaAttack(
            *_member_frames(columns, signals.inside),
            df_population=frame,
            row_aggregation=_no_aggregation(),
            num_reference_models=2 * pairs if online else pairs,
            enable_auto_tuning=tuned,
            online=online,
        )
        return _guard_scores(run, signals)

    return attack


def _member_frames(columns: dict[str, NDArray[Any]], inside: NDArray[Any]) -> tuple[Any, Any]:
    """The frames of members and of non-members that PrivacyGuard wants."""
    frame = importlib.import_module("pandas").DataFrame({"user_id": np.arange(len(inside)), **columns})
    return frame[inside].copy(), frame[~inside].copy()


def _no_aggregation() -> Any:
    return importlib.import_module("privacy_guard.analysis.mia.aggregate_analysis_input").AggregationType.NONE


def _guard_scores(run: Any, signals: Signals) -> Scored:
    started = time.perf_counter()
    done = run.run_attack()
    seconds = time.perf_counter() - started
    frames = (done.df_train_user, done.df_test_user)
    judged = np.concatenate([frame["user_id"].to_numpy() for frame in frames])
    if len(judged) != len(signals.labels):
        raise ValueError(f"{len(signals.labels) - len(judged)} of {len(signals.labels)} records were dropped")
    return Scored(np.concatenate([frame["score"].to_numpy() for frame in frames]), judged, seconds)


def _art_classifier(signals: Signals) -> tuple[Any, NDArray[Any]]:
    """A black box that looks the target's answers up by row number, and the row numbers as its inputs."""
    art = importlib.import_module("art.estimators.classification")
    rows = _all(signals)[:, None].astype(np.float32)
    box = art.BlackBoxClassifier(lambda x: signals.probs[x[:, 0].astype(int)], (1,), signals.probs.shape[1])
    return box, rows


def _art_black_box(kind: str) -> Attack:
    """Half of the records teach ART's meta-classifier what a member looks like; it is judged on the other half."""

    def attack(signals: Signals) -> Scored:
        module = importlib.import_module("art.attacks.inference.membership_inference")
        box, rows = _art_classifier(signals)
        taught = np.random.default_rng(0).random(len(rows)) < 0.5
        one_hot = np.eye(signals.probs.shape[1])[signals.labels]
        known, other = taught & signals.inside, taught & ~signals.inside
        judged = np.flatnonzero(~taught)
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = module.MembershipInferenceBlackBox(box, attack_model_type=kind)
            run.fit(rows[known], one_hot[known], rows[other], one_hot[other])
            scores = run.infer(rows[judged], one_hot[judged], probabilities=True)
        seconds = time.perf_counter() - started
        return Scored(_last_column(scores), judged, seconds)

    return attack


def _art_rule_based(signals: Signals) -> Scored:
    """Member if and only if classified correctly."""
    module = importlib.import_module("art.attacks.inference.membership_inference")
    box, rows = _art_classifier(signals)
    one_hot = np.eye(signals.probs.shape[1])[signals.labels]
    started = time.perf_counter()
    scores = module.MembershipInferenceBlackBoxRuleBased(box).infer(rows, one_hot)
    return Scored(np.asarray(scores, dtype=float), _all(signals), time.perf_counter() - started)


def _last_column(scores: Any) -> NDArray[Any]:
    """ART gives one column (the probability of membership) or two (outside, inside)."""
    values = np.asarray(scores, dtype=float)
    return values if values.ndim == 1 else values[:, -1]
