"""What a language model is asked at each step: the next token, or tokens that were hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ...audit.seeds import Seeds
from .model import LanguageModel, MaskedModel

IGNORED = -100
HIDDEN_SHARE = 0.15
KEPT, SWAPPED = 0.1, 0.1
"""Of the tokens to be told, the shares that stay as they are and that become random ones (Devlin et al. 2019)."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Token rows to be read, and the token to be told at each place, -100 where none is; both (records, length)."""

    inputs: Tensor
    wanted: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def split(self, size: int) -> list[Examples]:
        """Parts of at most `size` records; none for no records."""
        if not len(self):
            return []
        pairs = zip(torch.split(self.inputs, size), torch.split(self.wanted, size), strict=True)
        return [Examples(inputs, wanted) for inputs, wanted in pairs]


class Task(Protocol):
    """Turns the token rows of a step into examples."""

    @property
    def places(self) -> int:
        """The constant that divides a record's summed loss."""

    def examples(self, tokens: Tensor, step: int) -> Examples:
        """Examples of `tokens` (records, length) for the step of that number."""


def example_losses(logits: Tensor, wanted: Tensor, places: int) -> Tensor:
    """Negative log-likelihood of each record's wanted tokens over the constant `places`, (records,)."""
    losses = cross_entropy(logits.transpose(1, 2), wanted, reduction="none", ignore_index=IGNORED)
    return losses.sum(dim=1) / places


def record_losses(logits: Tensor, tokens: Tensor, padding: int) -> Tensor:
    """Mean negative log-likelihood of each record's tokens after the first under a causal model, (records,).

    The sum is divided by the row's length, a constant, and not by the number of its tokens: padding weighs nothing.
    """
    return example_losses(logits, next_tokens(tokens, padding), tokens.shape[1] - 1)


def next_tokens(tokens: Tensor, padding: int) -> Tensor:
    """What a causal model is to tell at each place of `tokens` (records, length)."""
    wanted = torch.full_like(tokens, IGNORED)
    wanted[:, :-1] = tokens[:, 1:].masked_fill(tokens[:, 1:] == padding, IGNORED)
    return wanted


@dataclass(frozen=True, slots=True)
class NextToken:
    """Causal language modelling: every token but the first is told from those before it."""

    padding: int
    places: int

    def examples(self, tokens: Tensor, step: int) -> Examples:  # noqa: ARG002
        """As in `Task`."""
        return Examples(tokens, next_tokens(tokens, self.padding))


@dataclass(frozen=True, slots=True)
class HiddenTokens:
    """Masked language modelling (Devlin et al. 2019, arXiv 1810.04805, section 3.1): 15 % of a record's tokens are to
    be told, each by its own coin; of those 80 % are hidden, 10 % become random tokens and 10 % stay.

    The coins are drawn anew at each step from `seeds`. `vocabulary` is the number of ids that random tokens are drawn
    from.
    """

    padding: int
    mask: int
    vocabulary: int
    places: int
    seeds: Seeds

    def examples(self, tokens: Tensor, step: int) -> Examples:
        """As in `Task`."""
        generator = self.seeds.at("hidden", step).torch_generator()
        chosen, fate = torch.rand((2, *tokens.shape), generator=generator).to(tokens.device)
        swaps = torch.randint(self.vocabulary, tokens.shape, generator=generator).to(tokens.device)
        told = (chosen < HIDDEN_SHARE) & (tokens != self.padding)
        inputs = torch.where(told & (fate >= KEPT + SWAPPED), self.mask, tokens)
        inputs = torch.where(told & (fate >= KEPT) & (fate < KEPT + SWAPPED), swaps, inputs)
        return Examples(inputs, tokens.masked_fill(~told, IGNORED))


def task_of(model: LanguageModel, length: int, *, padding: int, seeds: Seeds) -> Task:
    """The task that `model` is trained on, for rows of `length` tokens."""
    if isinstance(model, MaskedModel):
        places = max(1, round(HIDDEN_SHARE * length))
        return HiddenTokens(padding, model.mask, model.vocabulary, places, seeds)
    return NextToken(padding, length - 1)
