"""Models that learn features without labels: what they are asked, and whether they learned anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .metrics.intervals import accuracy_interval
from .seeds import Seeds
from .types import FloatArray, Rows

FEWEST_ROWS = 20
"""Public rows below which no probe is fitted."""
STANDARD_ERRORS = 2.0
"""By how many of them a model must beat a baseline on held-out rows to have learned something."""


@runtime_checkable
class Representation(Protocol):
    """A model that describes a record by a short code and restores the record from it."""

    def encode(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Codes (records, width)."""

    def reconstruct(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """The records as restored, in the shape of `features`."""


@runtime_checkable
class RepresentationTrainer(Protocol):
    """A trainer whose targets are `Representation`s, and which knows its network before training."""

    def untrained(self, data: Rows, *, seeds: Seeds, device: str) -> Representation:
        """The same network with its first weights, for records like those of `data`."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of the model, of what needs no training (`plain`: raw features, or the mean row), and of the network
    `untrained`."""

    model: NDArray[np.float64]
    plain: NDArray[np.float64]
    untrained: NDArray[np.float64]

    def model_is_less(self) -> bool:
        """Whether the model's mean is below both others', by more than chance on these rows explains."""
        gaps = (self.plain - self.model, self.untrained - self.model)
        return all(g.mean() > STANDARD_ERRORS * g.std(ddof=1) / np.sqrt(len(g)) for g in gaps)


def reconstruction_errors(model: Representation, features: FloatArray) -> NDArray[np.float64]:
    """Half the summed squared error of each record, (records,)."""
    return _errors(np.asarray(model.reconstruct(features)), features)


def representation_utility(
    model: Representation, untrained: Representation, public: Rows, *, seeds: Seeds
) -> dict[str, Any]:
    """How good the learned features are, on `public` rows that no model has seen; the shape of `utility` in the report.

    A linear probe (logistic regression on standardised columns) is fitted to the codes of half of the rows, and its
    accuracy on the other half stands beside the same probe on raw features and on the untrained network's codes. Held
    out reconstruction errors stand beside those of the mean of the first half and of the untrained network: a model
    that beats not both learned nothing that could leak. Empty where there are too few public rows.
    """
    if len(public) < FEWEST_ROWS:
        return {}
    order = seeds.at("halves").generator().permutation(len(public))
    known, held_out = public.take(order[::2]), public.take(order[1::2])
    errors = Compared(
        reconstruction_errors(model, held_out.features),
        _errors(np.broadcast_to(known.features.mean(axis=0), held_out.features.shape), held_out.features),
        reconstruction_errors(untrained, held_out.features),
    )
    found: dict[str, Any] = {
        "probe_rows": len(known),
        "test_rows": len(held_out),
        "reconstruction_error": float(errors.model.mean()),
        "mean_row_error": float(errors.plain.mean()),
        "untrained_error": float(errors.untrained.mean()),
    }
    named = _probes(model, untrained, known, held_out, found)
    return {"learned": errors.model_is_less(), "representation": found, **named}


def _probes(
    model: Representation, untrained: Representation, known: Rows, held_out: Rows, found: dict[str, Any]
) -> dict[str, Any]:
    """Accuracies of linear probes, written into `found`; the model's own and the majority share also as utility."""
    if len(np.unique(known.labels)) < 2:
        return {}
    sources = {"probe": model.encode, "raw": lambda features: features, "untrained": untrained.encode}
    for name, describe in sources.items():
        right = probe_correct(describe(known.features), known.labels, describe(held_out.features), held_out.labels)
        found[f"{name}_accuracy"] = accuracy_interval(int(right.sum()), len(right), 0.95).to_json()
    majority = np.bincount(held_out.labels).max() / len(held_out)
    return {"test_accuracy": found["probe_accuracy"], "majority_share": float(majority)}


def probe_correct(
    known: FloatArray, labels: NDArray[np.int64], asked: FloatArray, truth: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether a logistic regression fitted to `known` names the label of each row of `asked`, (rows,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    probe.fit(known.reshape(len(known), -1), labels)
    return np.asarray(probe.predict(asked.reshape(len(asked), -1)) == truth)


def _errors(reconstructions: FloatArray, features: FloatArray) -> NDArray[np.float64]:
    gaps = (reconstructions.astype(np.float64) - features).reshape(len(features), -1)
    return np.asarray((gaps**2).sum(axis=1) / 2, np.float64)
