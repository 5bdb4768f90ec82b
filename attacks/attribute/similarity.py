"""How alike two records are, from -1 to 1: structural similarity of pictures, correlation of table rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Similarity:
    """Measured in the scale of public records: `centre` and `spread` (columns,) of tables, `span` of pictures."""

    picture: bool
    span: float
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def of(cls, public: NDArray[Any]) -> Similarity:
        """For records like `public` (records, ...): pictures where they have two dimensions or three."""
        flat = public.reshape(len(public), -1).astype(np.float64)
        spread = flat.std(axis=0)
        span = float(flat.max() - flat.min())
        return cls(public.ndim >= 3, span or 1.0, flat.mean(axis=0), np.where(spread > 0, spread, 1.0))

    def __call__(self, ones: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
        """Record by record, (records,); either side may be a single record."""
        ones, others = np.broadcast_arrays(ones, others)
        if self.picture:
            return ssim(ones.astype(np.float64), others.astype(np.float64), self.span)
        a, b = ((x.reshape(len(x), -1) - self.centre) / self.spread for x in (ones, others))
        size = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
        return np.asarray((a * b).sum(axis=1) / np.maximum(size, 1e-12))


def ssim(ones: NDArray[np.float64], others: NDArray[np.float64], span: float) -> NDArray[np.float64]:
    """Mean structural similarity (records,) of pictures (records, ..., height, width) whose values span `span`.

    Wang, Bovik, Sheikh, Simoncelli 2004 (IEEE Transactions on Image Processing 13, 600-612, equation 13) with their
    Gaussian window of 1.5 pixels, K1 = 0.01, K2 = 0.03; borders are mirrored, channels averaged.
    """
    from scipy.ndimage import gaussian_filter

    def blurred(pictures: NDArray[np.float64]) -> NDArray[np.float64]:
        sigma = [0.0] * (pictures.ndim - 2) + [1.5, 1.5]
        return np.asarray(gaussian_filter(pictures, sigma, truncate=3.5), dtype=np.float64)

    mean_a, mean_b = blurred(ones), blurred(others)
    variance_a = blurred(ones * ones) - mean_a**2
    variance_b = blurred(others * others) - mean_b**2
    covariance = blurred(ones * others) - mean_a * mean_b
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return np.asarray((top / bottom).reshape(len(ones), -1).mean(axis=1))
