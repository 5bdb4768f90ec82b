"""One image from what a client's mask scores did in the first linear layer: a matrix of rank one, exact or in noise.

The gradient of score (o, i) is frozen weight times slope times delta_o x_i, and the first two are public: divided by
them, what is left has rank one, and its right singular vector is the image but for scale and sign. Adam keeps the sign
of each entry only, and sampled bits show that sign in noise. Public images say what images, and what signs, are likely.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RIDGE = 1e-4
"""Variance added to public pixels: those that never vary stay nearly, not exactly, known."""
EXACT = 1e-11
"""Squares that the leading pair leaves over, as a share of its own, up to which the rest is rounding of float32."""
CLEAR = 1.2
"""How far beyond the edge of the noise a singular value must lie to be believed."""
LEAST = 1e-30
"""Variances do not fall below it."""
ITERATIONS = 50
"""Rounds of the variational law; it moves little after a dozen."""


@dataclass(frozen=True, slots=True)
class Law:
    """Mean (in,) and covariance (in, in) of what public images, or their signs, look like."""

    mean: Floats
    covariance: Floats


def law_of(values: Floats) -> Law:
    """The law of rows (images, in)."""
    spread = _covariance(values, values) + RIDGE * np.eye(values.shape[1])
    return Law(values.mean(axis=0), spread)


def image_of(matrix: Floats, public: Floats) -> Floats:
    """The image (in,) behind `matrix` (out, in), about delta x' in noise; `public` (images, in) are images like it."""
    law, exact = law_of(public), direction(matrix)
    return posterior_mean(matrix, law) if exact is None else likeliest_multiple(exact, law)


def image_of_signs(matrix: Floats, public: Floats) -> Floats:
    """The image (in,) behind `matrix` (out, in), about delta sign(x)' in noise: the signs first, then linear regression
    of public images on their signs."""
    signs = np.sign(public)
    law = law_of(signs)
    exact = direction(matrix)
    found = posterior_mean(matrix, law) if exact is None else _likelier(np.sign(exact), law)
    together = _covariance(public, signs)
    out: Floats = public.mean(axis=0) + together @ np.linalg.solve(law.covariance, found - law.mean)
    return out


def direction(matrix: Floats) -> Floats | None:
    """The right singular vector (in,) of a matrix of rank one, None where it is not one."""
    _, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    if sizes[0] == 0 or float(np.square(sizes[1:]).sum()) > EXACT * float(sizes[0]) ** 2:
        return None
    found: Floats = right[0]
    return found


def _likelier(signs: Floats, law: Law) -> Floats:
    """`signs` or their opposite."""
    return signs if float(signs @ np.linalg.solve(law.covariance, law.mean)) >= 0 else -signs


def likeliest_multiple(guess: Floats, law: Law) -> Floats:
    """a v, v = `guess` (in,), with the a of either sign that makes it likeliest: least (a v - mean)' P (a v - mean)."""
    bent = np.linalg.solve(law.covariance, guess)
    out: Floats = float(bent @ law.mean) / float(bent @ guess) * guess
    return out


def posterior_mean(matrix: Floats, law: Law) -> Floats:
    """Mean (in,) of z under Y = delta z' + noise, z of the given law, delta and the noise white of unknown sizes.

    Variational Bayes with independent normal laws of delta and z (principal components after Bishop 1999, with an
    informative law of z). It starts at the leading singular vector where that stands out of the noise, whose singular
    values end at its standard deviation times sqrt(rows) + sqrt(columns), and at the law's mean elsewhere: to that it
    falls back where there is nothing to see, but it finds signals below those that stand out.
    """
    rows, columns = matrix.shape
    precision = np.linalg.inv(law.covariance)
    prior = precision @ law.mean
    mean, noise = _start(matrix, law)
    spread = np.zeros_like(precision)
    deltas = matrix @ mean / float(mean @ mean)
    strength = float(np.square(deltas).mean()) or LEAST
    for _ in range(ITERATIONS):
        width = float(mean @ mean + np.trace(spread))
        variance = 1 / (width / noise + 1 / strength)
        deltas = matrix @ mean * (variance / noise)
        energy = float(deltas @ deltas) + rows * variance
        spread = np.linalg.inv(precision + energy / noise * np.eye(columns))
        mean = spread @ (prior + deltas @ matrix / noise)
        strength = max(energy / rows, LEAST)
        squares = float(mean @ mean + np.trace(spread))
        left = float(np.square(matrix).sum()) - 2 * float(deltas @ matrix @ mean) + energy * squares
        noise = max(left / matrix.size, LEAST)
    return mean


def _start(matrix: Floats, law: Law) -> tuple[Floats, float]:
    """Where to start, and the variance of the noise if that were right."""
    rows, columns = matrix.shape
    _, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    rest = float(np.square(sizes[1:]).sum()) / max(1, (rows - 1) * (columns - 1))
    if float(sizes[0]) > CLEAR * math.sqrt(rest) * (math.sqrt(rows) + math.sqrt(columns)):
        return likeliest_multiple(right[0], law), max(rest, LEAST)
    return law.mean, max(float(np.square(matrix).mean()), LEAST)


def _covariance(first: Floats, second: Floats) -> Floats:
    """(in, in) of centred columns."""
    one, two = first - first.mean(axis=0), second - second.mean(axis=0)
    out: Floats = one.T @ two / max(1, len(first) - 1)
    return out
