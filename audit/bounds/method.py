"""What every bound can do, and how an error probability and a `Bound` follow from it."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, Generic, Protocol, TypeVar

from ..errors import ConfigError, IncompatibleError
from ..types import Bound, Selection, Validity
from .counts import Counts

CountsT = TypeVar("CountsT", bound=Counts)
AcceptedT = TypeVar("AcceptedT", bound=Counts, contravariant=True)


class BoundMethod(Protocol[AcceptedT]):
    """Counts to a certified lower bound on epsilon. A frozen dataclass whose fields are its parameters."""

    name: ClassVar[str]
    counts_type: ClassVar[type]

    @property
    def null_class(self) -> str:
        """The mechanisms that the bound rejects: `approx-dp` (any), `gdp`, `dp-sgd(q=...,T=...)`."""

    def validity(self, delta: float) -> Validity:
        """What the confidence means at this delta."""

    def epsilon_lower(self, counts: AcceptedT, *, delta: float, alpha: float) -> float:
        """The bound, wrong with probability at most `alpha`: finite, never negative."""

    def ceiling(self, counts: AcceptedT, *, delta: float, alpha: float) -> float:
        """What an attack that is never wrong would certify on the same design."""

    def certify(
        self,
        counts: AcceptedT,
        *,
        delta: float,
        confidence: float,
        selection: Selection = ...,
        alpha_share: float = 1.0,
    ) -> Bound:
        """The bound with everything that says what it means."""


class Certifying(Generic[CountsT]):
    """The half of `BoundMethod` that is the same for all: a method adds `epsilon_lower`, `null_class`, `validity`."""

    __slots__ = ()

    name: ClassVar[str]
    counts_type: ClassVar[type]
    needs_delta: ClassVar[bool] = False
    anytime: ClassVar[bool] = False

    @property
    def null_class(self) -> str:
        """Any mechanism, unless a method says otherwise."""
        return "approx-dp"

    def validity(self, delta: float) -> Validity:  # noqa: ARG002
        """Frequentist, unless a method says otherwise."""
        return Validity.FREQUENTIST

    @abstractmethod
    def epsilon_lower(self, counts: CountsT, *, delta: float, alpha: float) -> float:
        """The bound, wrong with probability at most `alpha`."""

    def ceiling(self, counts: CountsT, *, delta: float, alpha: float) -> float:
        """What an attack that is never wrong would certify on the same design."""
        return self.epsilon_lower(counts.perfect(), delta=delta, alpha=alpha)

    def certify(
        self,
        counts: CountsT,
        *,
        delta: float,
        confidence: float,
        selection: Selection = Selection(),  # noqa: B008
        alpha_share: float = 1.0,
    ) -> Bound:
        """The bound at error probability (1 - confidence) * alpha_share / selection.tried.

        Raises `ConfigError` for numbers out of range and `IncompatibleError` for counts of another design or a
        selection rule that the method does not support.
        """
        self.check_counts(counts)
        if selection.rule == "anytime" and not self.anytime:
            raise IncompatibleError(
                f"{self.name} holds at one sample size fixed beforehand, not at every stopping point: "
                "use one-run-anytime or sequential"
            )
        alpha = error_probability(confidence, alpha_share=alpha_share, selection=selection)
        return Bound(
            epsilon=self.epsilon_lower(counts, delta=delta, alpha=alpha),
            delta=delta,
            confidence=confidence,
            method=self.name,
            null_class=self.null_class,
            validity=self.validity(delta),
            selection=selection,
            counts=counts.numbers(),
            ceiling=self.ceiling(counts, delta=delta, alpha=alpha),
            alpha=alpha,
        )

    def check_counts(self, counts: CountsT) -> None:
        """Raises `IncompatibleError` unless `counts` come from this method's design."""
        if not isinstance(counts, self.counts_type):
            raise IncompatibleError(
                f"{self.name} needs {self.counts_type.__name__}, got {type(counts).__name__}: "
                "the bound follows from the design of the experiment"
            )

    def check_levels(self, delta: float, alpha: float) -> None:
        """Raises `ConfigError` for a delta or alpha outside the method's range."""
        if not 0 <= delta < 1:
            raise ConfigError(f"delta must lie in [0, 1), got {delta}")
        if delta == 0 and self.needs_delta:
            raise ConfigError(f"{self.name} needs delta > 0, got 0: its family has no finite epsilon at delta 0")
        if not 0 < alpha < 1:
            raise ConfigError(f"alpha must lie strictly between 0 and 1, got {alpha}")


def error_probability(confidence: float, *, alpha_share: float, selection: Selection) -> float:
    """The alpha of one bound: what 1 - confidence leaves after the ledger share and the number of candidates tried."""
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie strictly between 0 and 1, got {confidence}")
    if not 0 < alpha_share <= 1 or math.isnan(alpha_share):
        raise ConfigError(f"alpha_share must lie in (0, 1], got {alpha_share}")
    alpha = (1 - confidence) * alpha_share / selection.tried
    if alpha <= 0:
        raise ConfigError(f"confidence {confidence} leaves no error probability")
    return alpha
