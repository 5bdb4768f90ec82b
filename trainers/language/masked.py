"""A masked language model behind its queries: every token told from the others, in a fixed number of passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...audit.errors import IncompatibleError
from .model import MaskedModel
from .tokenizer import Tokenizer, token_rows

BATCH = 128
"""Rows scored at a time."""
STRIPES = 7
"""Passes over a row; each hides every seventh place, close to the 15 % of training."""


class MaskedTarget:
    """Scores of tokens as in `audit.text.TextModel`, but of each token given those around it: pseudo-log-likelihoods
    (Salazar et al. 2020, arXiv 1910.14659, equation 1), with every seventh token hidden at a time instead of one.

    The places hidden together are fixed and public, so an answer depends on its own record alone. What a masked model
    cannot do, to continue a text, raises `IncompatibleError`.
    """

    def __init__(self, model: MaskedModel, tokenizer: Tokenizer, length: int, device: str) -> None:
        self.model, self.tokenizer, self.length, self.device = model.to(device).eval(), tokenizer, length, device

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """As in `Target`: text without labels has the one class, with probability 1."""
        return np.zeros((len(features), 1), np.float32)

    def token_log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """ln P[token | tokens not hidden with it] of byte rows, (records, tokens); NaN at padding."""
        return self.token_statistics(features)[..., 0]

    @torch.no_grad()
    def token_statistics(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """The same, then mean and standard deviation of the log-probability of a token drawn from the model at that
        place: (records, tokens, 3)."""
        tokens = token_rows(features, self.tokenizer, self.length)
        parts = [self._told(part) for part in torch.split(torch.from_numpy(tokens), BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, self.length, 3))

    def _told(self, rows: Tensor) -> NDArray[np.float64]:
        here = rows.to(self.device)
        out = torch.full((*here.shape, 3), torch.nan, dtype=torch.float64)
        for first in range(min(STRIPES, here.shape[1])):
            hidden = here.clone()
            # Padding stays: a mask there would be attended to, and would tell where the text ends.
            hidden[:, first::STRIPES] = hidden[:, first::STRIPES].masked_fill(
                hidden[:, first::STRIPES] != self.tokenizer.padding, self.model.mask
            )
            logs = self.model(hidden)[:, first::STRIPES].double().log_softmax(-1)
            weights = logs.exp()
            mean = (weights * logs).sum(-1)
            spread = ((weights * logs.square()).sum(-1) - mean.square()).clamp_min(0).sqrt()
            told = logs.gather(2, here[:, first::STRIPES, None])[..., 0]
            out[:, first::STRIPES] = torch.stack([told, mean, spread], dim=2).cpu()
        out[rows == self.tokenizer.padding] = torch.nan
        return np.asarray(out.numpy(), np.float64)

    def continuation_log_probabilities(self, prefix: str, continuations: Sequence[str]) -> NoReturn:  # noqa: ARG002
        """Raises `IncompatibleError`."""
        _refuse("probabilities of continuations")

    def number_log_probabilities(self, prefix: str, digits: int) -> NoReturn:  # noqa: ARG002
        """Raises `IncompatibleError`."""
        _refuse("probabilities of continuations")

    def greedy(self, prefix: str, characters: int) -> NoReturn:  # noqa: ARG002
        """Raises `IncompatibleError`."""
        _refuse("continuations")


def _refuse(what: str) -> NoReturn:
    raise IncompatibleError(
        f"language: a masked model has no {what}: use trainer 'language' with objective = 'causal' for this attack"
    )
