"""scikit-learn classifiers as trainers: a forest or a boosted model, and its shadows, through the same estimator."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..audit.errors import ConfigError, IncompatibleError, StaleArtifactError
from ..audit.registry import load_attribute
from ..audit.seeds import Seeds
from ..audit.types import BoolArray, Rows, Trained
from .persistence import RECORD
from .targets import EstimatorTarget

PROBED = 32
"""Rows whose answers are stored with a model, to know it again."""


@dataclass(frozen=True, slots=True)
class Estimator:
    """Fits `estimator`, a class at `module:attr` that makes a classifier, on features flattened to (records, columns).

    `parameters` go to its constructor. Every parameter called `random_state`, in steps of a pipeline too, is set from
    the model's seeds. Labels are the whole numbers of the data; the classifier needs `predict_proba`.

    Nothing is pickled. What is stored is how to fit the model again (rows, seed, parameters) and its answers to some
    rows; loading fits it again and compares. `package_version`, filled in, is the version of the package that the
    estimator comes from: another version may grow other trees, so its models are not reused.
    """

    name: ClassVar[str] = "sklearn"
    version: ClassVar[str] = "1"

    estimator: str = "sklearn.ensemble:RandomForestClassifier"
    parameters: dict[str, Any] = field(default_factory=dict)
    package_version: str | None = None

    def __post_init__(self) -> None:
        package = self._make().__module__.partition(".")[0]
        found = _version_of(package)
        if self.package_version not in (None, found):
            raise ConfigError(
                f"package_version {self.package_version!r}: {package} {found} is installed; leave package_version out"
            )
        object.__setattr__(self, "package_version", found)

    def fit(
        self,
        data: Rows,
        rows: BoolArray,
        *,
        seeds: Seeds,
        device: str,  # noqa: ARG002
        checkpoint: Path | None = None,  # noqa: ARG002
    ) -> Trained:
        """As in `Trainer`. `IncompatibleError` for tokens; `ConfigError` where the estimator refuses its parameters."""
        own = data.take(rows)
        if not np.issubdtype(own.features.dtype, np.floating):
            raise IncompatibleError(f"trainer 'sklearn' needs numbers, got {own.features.dtype} features (tokens)")
        estimator = self._seeded(seeds)
        flat = own.features.reshape(len(own), -1)
        try:
            estimator.fit(flat, own.labels)
        except ValueError as error:
            raise ConfigError(f"trainer 'sklearn': {self.estimator}: {' '.join(str(error).split())[:300]}") from None
        target = EstimatorTarget(estimator, data.classes)
        answers = target.log_probabilities(own.features)
        metrics = {
            "train_loss": -float(answers[np.arange(len(own)), own.labels].mean()),
            "train_accuracy": float((answers.argmax(axis=1) == own.labels).mean()),
        }
        recipe = {"rows": np.flatnonzero(rows), "root": seeds.root, "path": list(seeds.path)}
        # No optimizer steps: one fit is counted as one step.
        return Trained(estimator, target, None, 1, metrics, {**recipe, "probe": answers[:PROBED]})

    def save(self, trained: Trained, folder: Path) -> None:
        """As in `Trainer`: `train.json` and the probed answers. Needs what `fit` returned."""
        made = trained.transcript
        if made is None:
            raise IncompatibleError("trainer 'sklearn' saves only models that it trained itself")
        np.savez(folder / "again.npz", rows=made["rows"], probe=made["probe"])
        record = {
            "spec": {"name": self.name, "version": self.version, "estimator": self.estimator, **_plain(self)},
            "seeds": {"root": made["root"], "path": made["path"]},
            "steps": trained.steps,
            "claim": None,
            "metrics": dict(trained.metrics),
        }
        (folder / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        """The model of `folder`, fitted again; `data` are the rows it was trained on among. `StaleArtifactError` when
        it answers otherwise than the stored one did: an estimator that does not repeat itself cannot be resumed."""
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            with np.load(folder / "again.npz", allow_pickle=False) as stored:
                positions, probe = stored["rows"], stored["probe"]
        except (OSError, ValueError, KeyError) as error:
            raise StaleArtifactError(f"{folder}: not a stored estimator ({error}): remove it and train again") from None
        rows = np.zeros(len(data), dtype=np.bool_)
        rows[positions[positions < len(data)]] = True
        seeds = Seeds(record["seeds"]["root"], tuple(record["seeds"]["path"]))
        again = self.fit(data, rows, seeds=seeds, device=device)
        assert again.transcript is not None
        if not _same(again.transcript["probe"], probe):
            raise StaleArtifactError(
                f"{folder}: {self.estimator}, fitted again from the same rows and seed, answers otherwise than before: "
                "its randomness must come from random_state alone"
            )
        return again

    def _seeded(self, seeds: Seeds) -> Any:
        estimator = self._make()
        names = [n for n in estimator.get_params(deep=True) if n.rpartition("__")[2] == "random_state"]
        return estimator.set_params(**{n: seeds.at("random-state", n).integer() % 2**32 for n in sorted(names)})

    def _make(self) -> Any:
        kind = load_attribute(self.estimator, "trainer.estimator")
        try:
            made = kind(**self.parameters)
        except TypeError as error:
            raise ConfigError(f"parameters do not fit {self.estimator}{_signature(kind)}: {error}") from None
        if not hasattr(made, "fit") or not hasattr(made, "get_params"):
            raise ConfigError(f"estimator {self.estimator!r} made a {type(made).__name__}, no scikit-learn estimator")
        return made


def _signature(kind: Any) -> str:
    try:
        return f"({', '.join(inspect.signature(kind).parameters)})"
    except (TypeError, ValueError):
        return ""


def _version_of(package: str) -> str:
    name = {"sklearn": "scikit-learn"}.get(package, package)
    try:
        return installed(name)
    except ImportError:
        return "unknown"


def _plain(trainer: Estimator) -> dict[str, Any]:
    return {"parameters": dict(trainer.parameters), "package_version": trainer.package_version}


def _same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.shape == other.shape and bool(np.allclose(one, other, atol=1e-4))
