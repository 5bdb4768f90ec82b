from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.sampling import PoissonStream, ShuffledStream, skip

ROWS = np.array([3, 5, 8, 13, 21, 34, 55])


def shuffled(batch_size: int = 4) -> ShuffledStream:
    return ShuffledStream(ROWS, batch_size, Seeds(1).generator())


def poisson(rate: float = 0.3, rows: np.ndarray = ROWS) -> PoissonStream:
    return PoissonStream(rows, rate, Seeds(1).generator())


@pytest.mark.parametrize("make", [shuffled, poisson])
def test_portions_do_not_change_the_stream(make) -> None:
    whole = make().take(60)
    pieces = make()
    parts = [pieces.take(n) for n in (1, 7, 0, 30, 22)]
    assert np.array_equal(np.concatenate([p.positions for p in parts]), whole.positions)
    assert np.array_equal(np.concatenate([p.sizes for p in parts]), whole.sizes)
    late = make()
    skip(late, 59)
    assert np.array_equal(late.take(1).positions, whole.each()[-1])


def test_shuffled_batches_are_full_and_every_epoch_has_every_row() -> None:
    batches = shuffled().take(21)  # 84 positions, 12 epochs of 7
    assert (batches.sizes == 4).all()
    epochs = batches.positions.reshape(12, 7)
    assert (np.sort(epochs, axis=1) == ROWS).all()
    assert len({tuple(e) for e in epochs}) > 1


def test_poisson_coins_are_fair_and_independent() -> None:
    # False-failure rate: 3 tests at 1e-4 each, on a fixed seed.
    steps, rate = 20_000, 0.3
    cells = np.zeros((steps, len(ROWS)), bool)
    for step, positions in enumerate(poisson(rate).take(steps).each()):
        assert len(set(positions)) == len(positions)
        cells[step, np.searchsorted(ROWS, positions)] = True
    assert stats.binomtest(int(cells.sum()), cells.size, rate).pvalue > 1e-4
    patterns = np.bincount(cells @ (1 << np.arange(len(ROWS))), minlength=128)
    bits = (np.arange(128)[:, None] >> np.arange(len(ROWS))) & 1
    expected = steps * np.prod(np.where(bits, rate, 1 - rate), axis=1)
    assert stats.chisquare(patterns, expected).pvalue > 1e-4
    # One row in successive steps: the four outcomes of a pair are a product.
    pairs = np.bincount(2 * cells[:-1, 0] + cells[1:, 0], minlength=4)
    q = np.array([1 - rate, rate])
    assert stats.chisquare(pairs, (steps - 1) * np.outer(q, q).ravel()).pvalue > 1e-4


def test_poisson_edges() -> None:
    assert (poisson(1.0).take(3).sizes == len(ROWS)).all()
    none = poisson(0.5, np.empty(0, np.int64)).take(4)
    assert none.sizes.tolist() == [0, 0, 0, 0]
    assert len(none.positions) == 0
    assert 0 in poisson(0.05).take(50).sizes
