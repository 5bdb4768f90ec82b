"""What a language model says of a text, token by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.seeds import Seeds
from ...audit.text import TEXT_PADDING, TextGenerator, TextModel
from ...audit.types import Access, Rows, Trained

CAPITALS = slice(ord("A"), ord("Z") + 1)


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """For every token but the first: its natural-log probability, mean and standard deviation of the log-probability of
    a token drawn from the model at that place, and 1; zeros at padding. Float32 (records, tokens, 4).
    """

    name: ClassVar[str] = "token-statistics"
    version: ClassVar[str] = "1"
    access: ClassVar[Access] = Access.LOGITS

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:  # noqa: ARG002
        """As in `Query`. Raises `IncompatibleError` for a model that is no language model."""
        return _statistics(trained.target, rows.features)


@dataclass(frozen=True, slots=True)
class LoweredStatistics:
    """`TokenStatistics` of the text in lower case, under a name of its own."""

    name: ClassVar[str] = "token-statistics-lowered"
    version: ClassVar[str] = "1"
    access: ClassVar[Access] = Access.LOGITS

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:  # noqa: ARG002
        """As in `Query`."""
        return _statistics(trained.target, lower_case(rows.features))


def text_model_of(model: Any) -> TextModel:
    """`model` as a language model; `IncompatibleError` for another."""
    if not isinstance(model, TextModel):
        raise IncompatibleError("text-membership needs a language model, such as trainer 'language' trains")
    return model


def generator_of(model: Any) -> TextGenerator:
    """`model` as one that continues texts; `IncompatibleError` for another."""
    if not isinstance(model, TextGenerator):
        raise IncompatibleError(
            "this attack needs a causal language model, such as trainer 'language' trains with objective 'causal'; "
            f"got {type(model).__name__}"
        )
    return model


def mean_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each row's values that are not NaN, (records,); 0 for a row without any."""
    known = ~np.isnan(values)
    return np.asarray(np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1), np.float64)


def _statistics(target: Any, features: NDArray[Any]) -> NDArray[np.float32]:
    statistics = text_model_of(target).token_statistics(features)
    known = ~np.isnan(statistics[..., :1])
    return np.concatenate([np.where(known, statistics, 0.0), known], axis=2).astype(np.float32)


def lower_case(features: NDArray[Any]) -> NDArray[np.int64]:
    """Byte rows with A to Z as a to z; other letters have no one-byte lower case and stay."""
    capital = (features >= CAPITALS.start) & (features < CAPITALS.stop)
    return np.where(capital, features + 32, features).astype(np.int64)


def text_of(row: NDArray[Any]) -> bytes:
    """The bytes of one row without padding."""
    return bytes(row[row < TEXT_PADDING].astype(np.uint8))
