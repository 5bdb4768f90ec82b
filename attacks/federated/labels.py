"""Label distribution of one client from its update: the last layer's bias moves by predicted minus true shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.games import Measure, Outcome, Stage
from ...audit.metrics.intervals import binomial_interval
from ...audit.seeds import Seeds
from ...audit.types import Access, FloatArray, Needs, Rows
from ..parameters import require_integer
from .hosts import UpdateHost, flat_weights, slices, update_host


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelDistribution:
    """An honest-but-curious server infers the label shares of `victims` clients from one update each.

    Each victim holds `rows` records of the audit, drawn with label shares from Dirichlet(`concentration`). For one step
    of SGD the last bias moves by -eta (mean prediction - label shares) (Wainakh et al. 2022, arXiv 2105.09369); for
    many steps, clipping and noise the server learns the linear map from that shift to the shares by running
    `rehearsals` clients of public records itself (ridge regression, its penalty chosen by leave-one-out error).
    """

    name: ClassVar[str] = "label-distribution"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "attribute"

    victims: int = 100
    rehearsals: int = 200
    rows: int = 32
    concentration: float = 0.5

    def __post_init__(self) -> None:
        require_integer(self.name, "victims", self.victims, least=2)
        require_integer(self.name, "rehearsals", self.rehearsals, least=20)
        require_integer(self.name, "rows", self.rows, least=1)

    @property
    def needs(self) -> Needs:
        """A server's view of single updates."""
        return Needs(access=Access.TRANSCRIPT)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """As in `Game`. Measures total variation distance and how often the most common label is named."""
        host, module = update_host(stage, self.name), stage.target().model
        prior = shares_of(stage.population)
        rehearsed = [self._client(stage.population, seeds.at("rehearsal", n)) for n in range(self.rehearsals)]
        shifts = [self._bias_shift(stage, host, module, c, seeds.at("rehearsal", n)) for n, c in enumerate(rehearsed)]
        reader = Ridge.fit(np.stack(shifts), np.stack([shares_of(c) for c in rehearsed]))
        distances, baselines, hits, guesses = [], [], 0, 0
        for victim in range(self.victims):
            here = seeds.at("victim", victim)
            rows = self._client(stage.private, here)
            truth = shares_of(rows)
            inferred = reader.shares(self._bias_shift(stage, host, module, rows, here))
            distances.append(total_variation(inferred, truth))
            baselines.append(total_variation(prior, truth))
            hits += bool(truth[inferred.argmax()] == truth.max())
            guesses += bool(truth[prior.argmax()] == truth.max())
        confidence = stage.confidence
        who = "the label shares of public records"
        named, blind = (binomial_interval(n, self.victims, confidence) for n in (hits, guesses))
        return Outcome(
            measures={
                "label_distance": _mean(distances, confidence, baseline=_mean(baselines, confidence, name=who)),
                "majority_label": Measure(
                    named.value,
                    named.low,
                    named.high,
                    n=self.victims,
                    baseline=Measure(blind.value, blind.low, blind.high, name=who),
                ),
            },
            threat={
                "attacker": "an honest-but-curious server that sees one client's update as it arrives",
                "knows": "the global model, the local training, public records, how many records the client has",
            },
            informative=bool(np.mean(baselines) > 0),
        )

    def _client(self, private: Rows, seeds: Seeds) -> Rows:
        generator = seeds.at("client").generator()
        shares = generator.dirichlet(np.full(private.classes, self.concentration))
        weights = shares[private.labels] / np.bincount(private.labels, minlength=private.classes)[private.labels]
        if not weights.sum():
            weights = np.ones(len(private))
        return private.take(generator.choice(len(private), self.rows, p=weights / weights.sum()))

    def _bias_shift(
        self, stage: Stage, host: UpdateHost, module: object, rows: Rows, seeds: Seeds
    ) -> NDArray[np.float64]:
        """(classes,): the update of the last parameter of that length."""
        places = [s for s, shape in slices(module).values() if shape == (rows.classes,)]
        if not places:
            raise IncompatibleError(f"attack {self.name!r} needs a last layer with a bias of {rows.classes} values")
        sent = host.client_update(module, rows, flat_weights(module), seeds=seeds.at("update"), device=stage.device)
        return np.asarray(sent[places[-1]])


@dataclass(frozen=True, slots=True)
class Ridge:
    """A linear map from standardised shifts (classes,) to label shares (classes,)."""

    centre: NDArray[np.float64]
    spread: float
    mean: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def fit(cls, shifts: NDArray[np.float64], shares: NDArray[np.float64]) -> Ridge:
        """From rehearsals (rehearsals, classes) each; the penalty with the least leave-one-out error."""
        centre, mean = shifts.mean(axis=0), shares.mean(axis=0)
        spread = float(shifts.std()) or 1.0
        x, y = (shifts - centre) / spread, shares - mean
        u, s, v = np.linalg.svd(x, full_matrices=False)
        best, weights = np.inf, np.zeros((x.shape[1], y.shape[1]))
        for penalty in np.geomspace(1e-3, 1e5, 25):
            shrink = s**2 / (s**2 + penalty)
            left_out = 1 - (u**2 @ shrink) - 1 / len(x)
            error = float(np.mean(((y - u @ (shrink[:, None] * (u.T @ y))) / left_out[:, None]) ** 2))
            if error < best:
                best, weights = error, v.T @ ((s / (s**2 + penalty))[:, None] * (u.T @ y))
        return cls(centre, spread, mean, weights)

    def shares(self, shift: NDArray[np.float64]) -> NDArray[np.float64]:
        """(classes,) shares >= 0 that add up to 1."""
        raw = np.maximum(self.mean + (shift - self.centre) / self.spread @ self.weights, 0.0)
        return np.asarray(raw / raw.sum() if raw.sum() else np.full(len(raw), 1 / len(raw)))


def shares_of(rows: Rows) -> NDArray[np.float64]:
    """Label shares (classes,)."""
    return np.asarray(np.bincount(rows.labels, minlength=rows.classes) / len(rows))


def total_variation(one: FloatArray, other: FloatArray) -> float:
    """Half the sum of absolute differences, in [0, 1]."""
    return float(np.abs(one - other).sum() / 2)


def _mean(
    values: list[float], confidence: float, *, baseline: Measure | None = None, name: str | None = None
) -> Measure:
    """A mean distance with its Student interval; further from the truth is better for privacy."""
    from scipy import stats

    n, mean = len(values), float(np.mean(values))
    width = float(stats.t.ppf((1 + confidence) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Measure(mean, mean - width, mean + width, n=n, baseline=baseline, better="higher", name=name)
