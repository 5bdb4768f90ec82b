"""Every peer's way to claim a lower bound on epsilon from the scores of members and of non-members.

Each tool is called as its own documentation calls it, at significance 0.05; delta 0 where the tool takes it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNIFICANCE = 0.05
TINY_DELTA = 1e-12
"""jax-privacy refuses delta 0 in its one-run bounds."""
GDP_DELTA = 1e-5

Call = Callable[[NDArray[Any], NDArray[Any]], float]
"""Scores of members and of non-members, higher for more likely inside, to the tool's epsilon."""


def peer_calls(design: dict[str, float]) -> dict[str, Call]:
    """All calls by name; `design` has the thresholds for the tools that want to be given one. Imports every peer."""
    return {
        **tensorflow_calls(),
        **jax_calls(design["threshold"], design["one_sided_threshold"]),
        **privacy_guard_calls(),
        **privacy_estimates_calls(design["threshold"]),
    }


def tensorflow_calls() -> dict[str, Call]:
    """tensorflow-empirical-privacy: the largest of its bounds over all thresholds, as its report prints it."""
    sys.skip_tf_privacy_import = True  # type: ignore[attr-defined]
    module = importlib.import_module("tensorflow_privacy.privacy.privacy_tests.epsilon_lower_bound")

    def top(method: str) -> Call:
        chosen = getattr(module.BoundMethod, method)
        return lambda members, others: module.EpsilonLowerBound(
            members, others, SIGNIFICANCE
        ).compute_epsilon_lower_bound(chosen, 1)[0]

    return {"tf-bailey": top("BAILEY"), "tf-clopper-pearson": top("CLOPPER_PEARSON")}


def jax_calls(threshold: float, one_sided_threshold: float) -> dict[str, Call]:
    """jax-privacy: its auditor with its own ways to choose the threshold, and with one fixed beforehand."""
    module = _jax_auditing()
    auditor = module.CanaryScoreAuditor
    split = module.Split(seed=0)

    def one_run(strategy: Any) -> Call:
        return lambda members, others: auditor(members, others).epsilon_one_run(
            SIGNIFICANCE, TINY_DELTA, threshold_strategy=strategy
        )

    def clopper_pearson(strategy: Any, one_sided: bool = True) -> Call:
        return lambda members, others: auditor(members, others).epsilon_clopper_pearson(
            SIGNIFICANCE, 0, one_sided, threshold_strategy=strategy
        )

    return {
        "jax-one-run-bonferroni": one_run(module.Bonferroni()),
        "jax-one-run-split": one_run(split),
        "jax-one-run-multisplit": one_run(module.MultiSplit(seed=0)),
        "jax-one-run-explicit": one_run(module.Explicit(one_sided_threshold)),
        "jax-clopper-pearson-bonferroni": clopper_pearson(module.Bonferroni()),
        "jax-clopper-pearson-two-sided": clopper_pearson(module.Bonferroni(), one_sided=False),
        "jax-clopper-pearson-split": clopper_pearson(split),
        "jax-clopper-pearson-multisplit": clopper_pearson(module.MultiSplit(seed=0)),
        "jax-clopper-pearson-explicit": clopper_pearson(module.Explicit(threshold)),
        "jax-raw-counts": lambda members, others: auditor(members, others).epsilon_raw_counts(10),
        "jax-gdp": lambda members, others: auditor(members, others).epsilon_from_gdp(SIGNIFICANCE, GDP_DELTA),
    }


def privacy_guard_calls() -> dict[str, Call]:
    """PrivacyGuard: its Clopper-Pearson figure on all scores, and the `eps` and `eps_lb` of its analysis node."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    pandas = importlib.import_module("pandas")
    results = importlib.import_module("privacy_guard.analysis.mia.mia_results")
    node = importlib.import_module("privacy_guard.analysis.mia.analysis_node")
    given = importlib.import_module("privacy_guard.analysis.base_analysis_input")

    def clopper_pearson(members: NDArray[Any], others: NDArray[Any]) -> float:
        of = results.MIAResults(torch.from_numpy(members), torch.from_numpy(others))
        return float(of.compute_acc_auc_ci_epsilon(0.0)[2])

    def headline(members: NDArray[Any], others: NDArray[Any]) -> Any:
        frames = [pandas.DataFrame({"score": s}) for s in (members, others)]
        # The node draws its bootstrap from numpy's global generator; without a seed the table would not repeat.
        np.random.seed(len(members))  # noqa: NPY002, TID251
        users = min(len(members), len(others))
        return node.AnalysisNode(given.BaseAnalysisInput(*frames), delta=0.0, n_users_for_eval=users).run_analysis()

    return {
        "pg-eps-cp": clopper_pearson,
        "pg-eps": lambda members, others: headline(members, others).eps,
        "pg-eps-lb": lambda members, others: headline(members, others).eps_lb,
    }


def privacy_estimates_calls(threshold: float) -> dict[str, Call]:
    """privacy-estimates: bounds from one table of counts, hence at a threshold fixed beforehand."""
    module = importlib.import_module("privacy_estimates")

    def bound(method: str) -> Call:
        def call(members: NDArray[Any], others: NDArray[Any]) -> float:
            hits, alarms = int((members >= threshold).sum()), int((others >= threshold).sum())
            counts = module.AttackResults(TP=hits, FN=len(members) - hits, FP=alarms, TN=len(others) - alarms)
            return float(module.compute_eps_lo(counts, 0.0, SIGNIFICANCE, method))

        return call

    return {"ms-clopper-pearson": bound("beta"), "ms-jeffreys": bound("jeffreys")}


def _jax_auditing() -> Any:
    """jax_privacy/auditing.py by itself: importing its package would need JAX, which the file does not."""
    path = importlib.metadata.distribution("jax-privacy").locate_file("jax_privacy/auditing.py")
    spec = importlib.util.spec_from_file_location("jax_privacy_auditing", str(path))
    if spec is None or spec.loader is None:
        raise ImportError(f"jax-privacy: no {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module
