from __future__ import annotations

from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.federated.discrete_gaussian import (
    _coins,
    _exact_coin,
    discrete_gaussian,
    log_probabilities,
    shares_gap,
)


def exact_probabilities(sigma: float, reach: int) -> np.ndarray:
    """The definition, by its own code: exp(-x^2 / 2 sigma^2), normalised over a support far wider than needed."""
    wide = range(-60 * int(sigma + 1), 60 * int(sigma + 1) + 1)
    total = sum(np.exp(-x * x / (2 * sigma**2)) for x in wide)
    return np.array([np.exp(-x * x / (2 * sigma**2)) / total for x in range(-reach, reach + 1)])


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 2.5, 17.0])
def test_the_sample_follows_the_exact_law(sigma):
    # Chi-square at 1e-6: false-failure rate 1e-6 for each sigma.
    size = 200_000
    sample = discrete_gaussian(sigma, size, Seeds(1).at("law", str(sigma)).generator())
    reach = max(1, int(3 * sigma))
    inner = exact_probabilities(sigma, reach)
    probabilities = np.append(inner, max(1 - inner.sum(), 0.0))
    counts = np.array([*((sample == x).sum() for x in range(-reach, reach + 1)), (np.abs(sample) > reach).sum()])
    kept = probabilities * size >= 5
    expected = probabilities[kept] / probabilities[kept].sum() * counts[kept].sum()
    assert stats.chisquare(counts[kept], expected).pvalue > 1e-6


def test_the_pmf_is_the_definition():
    values = np.arange(-9, 10)
    assert np.allclose(np.exp(log_probabilities(2.5, values)), exact_probabilities(2.5, 9), rtol=1e-12)


def test_large_sigma_looks_gaussian():
    # Kolmogorov-Smirnov at 1e-6.
    sample = discrete_gaussian(1e6, 50_000, Seeds(2).generator())
    assert stats.kstest(sample / 1e6, "norm").pvalue > 1e-6


def test_size_zero_and_sigma_zero():
    generator = Seeds(3).generator()
    assert discrete_gaussian(1.0, 0, generator).shape == (0,)
    assert not discrete_gaussian(0.0, 5, generator).any()


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf"), 2.0**41])
def test_sigma_out_of_range_is_refused(sigma):
    with pytest.raises(ConfigError, match="sigma"):
        discrete_gaussian(sigma, 1, Seeds(0).generator())


def test_same_seed_same_noise():
    first, second = (discrete_gaussian(3.0, 100, Seeds(4).generator()) for _ in range(2))
    assert np.array_equal(first, second)


class _Rigged:
    """A generator whose first bits leave the coin undecided in double precision."""

    def __init__(self, first: int, further: int) -> None:
        self._first, self._further = first, further

    def integers(self, high: int, size: int) -> np.ndarray:
        return np.full(size, self._first)

    def bytes(self, count: int) -> bytes:
        return self._further.to_bytes(count, "big")


def test_a_coin_on_the_edge_is_decided_by_further_bits():
    # exp(-1) lies in the cell of its own first 53 bits; the next 128 bits of 0 are below, of 1 above.
    cell = int(Decimal(-1).exp() * 2**53)
    for further, heads in ((0, True), (2**128 - 1, False)):
        rigged = _Rigged(cell, further)
        assert _coins(np.ones(1), rigged, lambda _: Fraction(1)).tolist() == [heads]


def test_exact_coin_agrees_with_a_long_decimal_expansion():
    getcontext().prec = 120
    for exponent in (Fraction(1, 3), Fraction(22, 7), Fraction(10)):
        threshold = int((-Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp() * (1 << 181))
        for offset, heads in ((-1, True), (1, False)):
            bits = threshold + offset
            assert _exact_coin(bits >> 128, exponent, _Rigged(0, bits & (2**128 - 1))) is heads


@pytest.mark.parametrize(("sigma", "clients"), [(0.5, 2), (0.5, 8), (0.7, 3), (1.0, 5)])
def test_the_gap_of_shares_covers_exact_convolutions(sigma, clients):
    reach = int(12 * sigma) + 2
    one = exact_probabilities(sigma, reach)
    total = np.ones(1)
    for _ in range(clients):
        total = np.convolve(total, one)
    # Truncation at 12 sigma leaves mass below 1e-30; compare within 6 sigma of the sum.
    middle, near = len(total) // 2, int(6 * sigma * np.sqrt(clients))
    ideal = log_probabilities(sigma * np.sqrt(clients), np.arange(-near, near + 1))
    gap = np.abs(np.log(total[middle - near : middle + near + 1]) - ideal).max()
    assert gap <= shares_gap(sigma, clients) + 1e-9


def test_shares_below_half_a_unit_are_refused():
    with pytest.raises(ConfigError, match="raise bits"):
        shares_gap(0.4, 10)
