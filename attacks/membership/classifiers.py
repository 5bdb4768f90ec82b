"""Classifiers of members against non-members that attacks train on shadow models (scikit-learn)."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ...audit.types import BoolArray

Kind = Literal["logistic", "boosting", "forest", "neural"]


def supported_kinds() -> tuple[str, ...]:
    """The names of the classifiers."""
    return get_args(Kind)


def fit_classifier(kind: Kind, features: NDArray[np.float64], inside: BoolArray, *, seeds: Seeds) -> Any:
    """A classifier taught on `features` (examples, n) and `inside` (examples,); None where only one answer occurs."""
    if inside.all() or not inside.any():
        return None
    model = _built(kind, int(seeds.integer() % 2**31))
    return model.fit(features, inside)


def log_odds(model: Any, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of membership (records,); 0 without a model."""
    if model is None:
        return np.zeros(len(features))
    if hasattr(model, "decision_function"):
        return np.asarray(model.decision_function(features), dtype=np.float64)
    probability = np.clip(model.predict_proba(features)[:, 1], 1e-6, 1 - 1e-6)
    return np.asarray(np.log(probability) - np.log1p(-probability), dtype=np.float64)


def _built(kind: Kind, seed: int) -> Any:
    if kind == "boosting":
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, learning_rate=0.1, random_state=seed)
    if kind == "forest":
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(n_estimators=100, min_samples_leaf=10, random_state=seed, n_jobs=1)
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind == "neural":
        from sklearn.neural_network import MLPClassifier

        network = MLPClassifier((64,), early_stopping=True, max_iter=100, random_state=seed)
        return make_pipeline(StandardScaler(), network)
    from sklearn.linear_model import LogisticRegression

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
