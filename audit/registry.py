"""Names to plug-ins: built-in, installed by other packages (entry points), or given as `module:attr`. Loaded on use."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError, PrerequisiteError


@dataclass(frozen=True, slots=True)
class Registry:
    """One kind of plug-in. `built_in` maps names to `module:attr` below `leakgauge`; other packages add to the
    entry-point group `leakgauge.<kind>`. A built-in name cannot be overridden from outside."""

    kind: str
    built_in: Mapping[str, str]

    def names(self) -> list[str]:
        """All names known, sorted; installed plug-ins included, none imported."""
        return sorted({*self.built_in, *(e.name for e in self._entry_points())})

    def load(self, name: str) -> Any:
        """The object called `name`, or the one at `module:attr`. Unknown: `ConfigError` with the nearest name."""
        if name in self.built_in:
            return _resolve("leakgauge." + self.built_in[name], f"{self.kind} {name!r}")
        if ":" in name:
            return load_attribute(name, f"{self.kind} {name!r}")
        for entry in self._entry_points():
            if entry.name == name:
                return _resolve(entry.value, f"{self.kind} {name!r}")
        raise ConfigError(f"unknown {self.kind.rstrip('s')} {name!r}{nearest(name, self.names())}")

    def _entry_points(self) -> importlib.metadata.EntryPoints:
        return importlib.metadata.entry_points(group=f"leakgauge.{self.kind}")


def nearest(name: str, known: list[str]) -> str:
    """`; did you mean 'x'?` or, without a near name, the whole list. Empty only if nothing is known."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def load_attribute(path: str, what: str) -> Any:
    """The object at `module:attr`, modules in the current folder included (a trainer lies beside its audit)."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        # Last, not first: a user's folder called `datasets` must not hide the package of that name.
        sys.path.append(os.getcwd())
    _join_namesakes(path.partition(":")[0])
    return _resolve(path, what)


def _join_namesakes(module_name: str) -> None:
    """Let a folder here that bears an installed package's name be searched too, after it: opacus brings a top-level
    `benchmarks`, and a project may well have one of its own."""
    package, dot, _ = module_name.partition(".")
    here = os.path.join(os.getcwd(), package)
    if not dot or not os.path.isdir(here):
        return
    try:
        places = getattr(importlib.import_module(package), "__path__", None)
    except ImportError:
        return
    if places is not None and here not in places:
        places.append(here)


def _resolve(path: str, what: str) -> Any:
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{what}: expected module:attr, got {path!r}")
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise PrerequisiteError(f"{what} needs the package {error.name!r}: pip install {error.name}") from error
        raise ConfigError(f"{what}: no module named {module_name!r}") from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            public = [n for n in vars(target) if not n.startswith("_")]
            raise ConfigError(f"{what}: {module_name!r} has no {part!r}{nearest(part, public)}")
        target = getattr(target, part)
    return target


TRAINERS = Registry(
    "trainers",
    {
        "sgd": "trainers.sgd:Sgd",
        "dp-sgd": "trainers.dpsgd:DpSgd",
        "federated": "trainers.federated.trainer:Federated",
        "dp-federated": "trainers.federated.trainer:DpFederated",
        "supermask": "trainers.supermask.trainer:Supermask",
        "dp-supermask": "trainers.supermask.private:DpSupermask",
        "federated-supermask": "trainers.supermask.federated:FederatedSupermask",
        "dp-federated-supermask": "trainers.supermask.federated:DpFederatedSupermask",
        "sklearn": "trainers.estimator:Estimator",
        "language": "trainers.language:Language",
        "dp-language": "trainers.language:DpLanguage",
        "autoencoder": "trainers.selfsupervised:Autoencoder",
        "dp-autoencoder": "trainers.selfsupervised:DpAutoencoder",
    },
)
ATTACKS = Registry(
    "attacks",
    {
        "loss": "attacks.membership.loss:LossThreshold",
        "confidence": "attacks.membership.confidence:Confidence",
        "entropy": "attacks.membership.entropy:Entropy",
        "modified-entropy": "attacks.membership.modified_entropy:ModifiedEntropy",
        "difficulty": "attacks.membership.difficulty:DifficultyCalibration",
        "population": "attacks.membership.population:PopulationAttack",
        "shadow-classifier": "attacks.membership.shadow_classifier:ShadowClassifier",
        "meta": "attacks.membership.meta:MetaAttack",
        "lira": "attacks.membership.lira:Lira",
        "rmia": "attacks.membership.rmia:Rmia",
        "gap": "attacks.membership.gap:Gap",
        "label-only-boundary": "attacks.membership.label_only:LabelOnlyBoundary",
        "label-only-augment": "attacks.membership.label_only:LabelOnlyAugment",
        "gradient-norm": "attacks.membership.gradient_norm:GradientNorm",
        "white-box": "attacks.membership.whitebox:WhiteBox",
        "loss-trajectory": "attacks.membership.trajectory:LossTrajectory",
        "quantile": "attacks.membership.quantile:Quantile",
        "mask-likelihood": "attacks.mask.likelihood:MaskLikelihood",
        "mask-gradient": "attacks.mask.gradient:MaskGradient",
        "reconstruction-loss": "attacks.membership.reconstruction:ReconstructionLoss",
        "attribute-inference": "attacks.attribute.inference:AttributeInference",
        "model-inversion": "attacks.attribute.inversion:ModelInversion",
        "canary": "attacks.canary.mislabelled:MislabelledCanary",
        "client-canary": "attacks.canary.client:ClientCanary",
        "federated-membership": "attacks.federated.rounds:FederatedMembership",
        "active-membership": "attacks.federated.active:ActiveMembership",
        "label-distribution": "attacks.federated.labels:LabelDistribution",
        "one-shot": "attacks.federated.one_shot:OneShot",
        "analytic": "attacks.inversion.images:AnalyticInversion",
        "dlg": "attacks.inversion.images:DeepLeakage",
        "inverting-gradients": "attacks.inversion.images:InvertingGradients",
        "tabular-inversion": "attacks.inversion.tabular:TabularInversion",
        "mask-inversion": "attacks.mask.inversion:MaskInversion",
        "mask-candidates": "attacks.mask.candidates:MaskCandidates",
        "imprint": "attacks.inversion.imprint:Imprint",
        "span": "attacks.inversion.text.game:SpanInversion",
        "text-matching": "attacks.inversion.text.matching_game:TextMatching",
        "matched-filter": "attacks.inversion.matched_filter:MatchedFilter",
        "gradient-canary": "attacks.canary.gradient_audit:GradientCanaryAudit",
        "text-canary": "attacks.canary.text:TextCanary",
        "text-rank": "attacks.canary.text_rank:TextRank",
        "text-membership": "attacks.language.membership:TextMembership",
        "text-extraction": "attacks.language.extraction:TextExtraction",
        "pii-completion": "attacks.language.pii:PiiCompletion",
        "secret-exposure": "attacks.language.exposure:SecretExposure",
    },
)
BOUNDS = Registry(
    "bounds",
    {
        "clopper-pearson": "audit.bounds.clopper_pearson:ClopperPearson",
        "one-run": "audit.bounds.one_run:OneRun",
        "one-run-fdp": "audit.bounds.one_run_fdp:OneRunFdp",
        "gdp": "audit.bounds.gdp:Gdp",
        "bayesian": "audit.bounds.bayesian:Bayesian",
        "rank": "audit.bounds.rank:Rank",
        "k-ary": "audit.bounds.k_ary:KAry",
        "k-ary-markov": "audit.bounds.k_ary_markov:KAryMarkov",
        "one-run-anytime": "audit.bounds.one_run_anytime:OneRunAnytime",
        "sequential": "audit.bounds.sequential:Sequential",
    },
)
DATASETS = Registry(
    "datasets",
    {
        "digits": "trainers.data.embedded:digits",
        "photos": "trainers.data.embedded:photos",
        "breast-cancer": "trainers.data.embedded:breast_cancer",
        "wine": "trainers.data.embedded:wine",
        "prose": "trainers.data.embedded:prose",
        "prose-public": "trainers.data.embedded:prose_public",
        "prose-private": "trainers.data.embedded:prose_private",
    },
)
SUITES = Registry(
    "suites",
    {
        "broken": "benchmarks.broken.suite:run",
        "peers": "benchmarks.peers:run",
        "stacked": "benchmarks.stacked:run",
        "whitebox": "benchmarks.whitebox:run",
        "text-canaries": "benchmarks.text_canaries:run",
        "many-runs": "benchmarks.many_runs:run",
        "shuffle": "benchmarks.shuffle:run",
        "inversion-cifar": "benchmarks.inversion:run",
        "attacks": "benchmarks.attacks:run",
        "scoring": "benchmarks.scoring:run",
        "opacus-normalisation": "benchmarks.opacus_normalisation:run",
        "frameworks": "benchmarks.frameworks.suite:run",
        "regression": "benchmarks.regression:run",
        "federated-audit": "benchmarks.federated_audit:run",
        "federated-speed": "benchmarks.federated_speed:run",
        "supermask-mechanisms": "benchmarks.supermask_mechanisms:run",
        "supermask-table": "benchmarks.supermask_table:run",
        "supermask-minilm": "benchmarks.supermask_minilm:run",
    },
)

EXECUTORS = Registry(
    "executors",
    {
        "local": "trainers.executors:LocalExecutor",
        "ray": "trainers.executors:RayExecutor",
    },
)

PARTS = Registry(
    "parts",
    {
        "data": "trainers.data:load_table",
        "data-spec": "trainers.data:DataSpec",
        "encode": "trainers.data:encode",
        "split": "trainers.data:split",
        "duplicates": "trainers.data:duplicate_groups",
        "target": "trainers.targets:load_target",
        "render": "reports.render:render",
        "annotations": "reports.render:render_annotations",
        "validate": "reports.schema:validate_audit",
        "read": "reports.schema:read_audit",
        "withhold": "reports.private:withhold",
        "vouch": "reports.verify:vouch",
        "verify": "reports.verify:verify_run",
        "public-key": "reports.signing:load_public_key",
        "comparison-page": "reports.comparison:render_comparison",
        "track": "reports.trackers:track",
    },
)
"""Our own parts that the runner reaches by name, so that `audit` imports neither `trainers` nor `reports`."""
