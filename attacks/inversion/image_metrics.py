"""How close is a reconstruction? PSNR, SSIM, and the assignment of reconstructions to victims."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float64]
EXACT = 200.0
"""PSNR in dB that stands for equality to rounding, so that averages stay finite."""


def psnr(first: Images, second: Images) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio in dB, (n,), of images (n, channels, height, width) with values in [0, 1]."""
    error = ((np.asarray(first, np.float64) - second) ** 2).mean(axis=(1, 2, 3))
    decibels: NDArray[np.float64] = np.minimum(EXACT, -10 * np.log10(np.maximum(error, 1e-300)))
    return decibels


def ssim(first: Images, second: Images, *, window: int = 7) -> NDArray[np.float64]:
    """Structural similarity (n,), mean over uniform windows and channels (Wang et al. 2004, IEEE TIP 13(4)).

    Constants 0.01 and 0.03 of a range of 1, sample covariances; images smaller than the window use one of their size.
    """
    from scipy.ndimage import uniform_filter

    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    size = min(window, *first.shape[2:])
    size -= 1 - size % 2
    span = (0, 0, size, size)
    count = size * size
    edge = size // 2

    def local(values: Images) -> Images:
        averaged = uniform_filter(values, size=(1, 1, *span[2:]))
        inner: Images = averaged[:, :, edge : values.shape[2] - edge, edge : values.shape[3] - edge]
        return inner

    mean_a, mean_b = local(first), local(second)
    scale = count / max(count - 1, 1)
    variance_a = scale * (local(first**2) - mean_a**2)
    variance_b = scale * (local(second**2) - mean_b**2)
    covariance = scale * (local(first * second) - mean_a * mean_b)
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    similarity: NDArray[np.float64] = (top / bottom).mean(axis=(1, 2, 3))
    return similarity


def assign(originals: Images, reconstructions: Images) -> NDArray[np.int64]:
    """For each original of a batch the reconstruction that stands for it: the assignment of least total squared error
    (Kuhn 1955), since a gradient does not say which record came first."""
    from scipy.optimize import linear_sum_assignment

    flat_a, flat_b = originals.reshape(len(originals), -1), reconstructions.reshape(len(reconstructions), -1)
    cost = ((flat_a[:, None] - flat_b[None]) ** 2).mean(axis=2)
    return np.asarray(linear_sum_assignment(cost)[1], dtype=np.int64)
