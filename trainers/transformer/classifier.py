"""A BERT encoder with mean pooling and a linear head, whose answer to a row of tokens depends on that row alone."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...audit.errors import IncompatibleError
from .memory import memory_for

EVALUATED = 64
"""Rows at a time where no gradient is wanted: more leave the cache of a CPU."""
PACKED = 1024
"""Tokens, and at most one record more, in a row of records end to end: attention costs the square of it."""

HIDDEN = -1e30
"""Added to the attention to a hidden token. Finite, for every attention: a row without any key would be NaN."""


class TransformerClassifier(nn.Module):
    """Logits (records, classes) of token rows (records, length) int64, filled up with `padding` on the right.

    The state of a record is the mean over its tokens of the encoder's last layer (Reimers and Gurevych 2019, arXiv
    1908.10084). Position ids have one row a record: with BERT's single row for the whole batch, per-sample gradients of
    the position embedding have no record axis, and Opacus fails. There are no buffers, so that nothing travels beside
    the parameters. A row of padding alone is read as its first token. `public_names` are the parameters that follow
    from the specification alone. Of the encoder's layers the first `frozen_layers` are not trained, and if there are
    any, its embeddings are not either.
    """

    stackable: ClassVar[bool] = False
    """Not several models in one program: torch.func would compute every column of padding."""

    def __init__(self, encoder: Any, classes: int, padding: int) -> None:
        super().__init__()
        self.encoder, self.padding = encoder, padding
        self.vocabulary: int = encoder.config.vocab_size
        self.head = nn.Linear(encoder.config.hidden_size, classes)
        self.public_names: frozenset[str] = frozenset()
        self.frozen_layers = 0
        _without_buffers(encoder)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits. Raises `IncompatibleError` for what is no row of this encoder's tokens."""
        if tokens.dim() != 2 or tokens.is_floating_point():
            raise IncompatibleError(
                f"model 'transformer' reads rows of tokens, got {tokens.dtype} records of shape "
                f"{tuple(tokens.shape[1:])}: set data.text_encoding = 'tokens' or 'bytes'"
            )
        if _is_wrapped(tokens):
            return self._logits(tokens)
        self._check(tokens)
        # Hooks, such as those of per-sample gradients, may count records along the first axis.
        if not any(module._forward_hooks for module in self.modules()):
            return self._packed(tokens)
        return self._logits(self._cut(tokens)) if torch.is_grad_enabled() else self._evaluated(tokens)

    def _evaluated(self, tokens: Tensor) -> Tensor:
        """Short rows beside short ones, so that little padding is computed."""
        if not len(tokens):
            return self.head.weight.new_zeros((0, self.head.out_features))
        order = (tokens != self.padding).sum(1).argsort()
        parts = [self._logits(self._cut(part)) for part in torch.split(tokens[order], EVALUATED)]
        return torch.cat(parts)[order.argsort()]

    def _packed(self, tokens: Tensor) -> Tensor:
        """The records end to end in few long rows, each attending to itself alone: no padding is computed, which is
        most of a batch of sentences of unlike lengths. The same logits to rounding."""
        if not len(tokens):
            return self.head.weight.new_zeros((0, self.head.out_features))
        return torch.cat([self._end_to_end(part) for part in self._parts(tokens)])

    def _parts(self, tokens: Tensor) -> tuple[Tensor, ...]:
        lengths = self._kept(tokens).sum(1)
        rows = (lengths.cumsum(0) - lengths) // PACKED
        sizes = rows.bincount()
        return torch.split(tokens, sizes[sizes > 0].tolist())

    def _end_to_end(self, tokens: Tensor) -> Tensor:
        kept = self._kept(tokens)
        record = kept.nonzero()[:, 0]
        mask = _own_record(record, self.head.weight.dtype)
        states = self._below(tokens, kept)
        for layer in self.encoder.encoder.layer[self.frozen_layers :]:
            states = layer(states, mask)
        shares = states[0] / kept.sum(1)[record, None]
        means = shares.new_zeros((len(tokens), shares.shape[1])).index_add(0, record, shares)
        logits: Tensor = self.head(means)
        return logits

    def _below(self, tokens: Tensor, kept: Tensor) -> Tensor:
        """States (1, tokens read, width) before the layers that are trained."""
        remembered = self._remembered(tokens)
        return self._from_tokens(tokens, kept) if remembered is None else torch.cat(remembered)[None]

    def _remembered(self, tokens: Tensor) -> list[Tensor] | None:
        """States (tokens read, width) of each row before the layers that are trained; None where none are frozen."""
        if not self.frozen_layers or not len(tokens):
            return None
        parts = [self.encoder.embeddings, *self.encoder.encoder.layer[: self.frozen_layers]]
        weights = [weight for part in parts for weight in part.parameters()]
        memory = memory_for(weights)
        return None if memory is None else memory.states(weights, tokens, self._rows_from_tokens)

    def _rows_from_tokens(self, tokens: Tensor) -> list[Tensor]:
        """States (tokens read, width) of each row, made of it alone: what is kept must not depend, in the last bit, on
        the rows that were asked for with it."""
        return [self._from_tokens(row[None], self._kept(row[None]))[0] for row in tokens]

    def _from_tokens(self, tokens: Tensor, kept: Tensor) -> Tensor:
        record, position = kept.nonzero(as_tuple=True)
        states: Tensor = self.encoder.embeddings(
            input_ids=tokens[kept][None],
            position_ids=position[None],
            token_type_ids=torch.zeros_like(position)[None],
        )
        mask = _own_record(record, states.dtype)
        for layer in self.encoder.encoder.layer[: self.frozen_layers]:
            states = layer(states, mask)
        return states

    def _kept(self, tokens: Tensor) -> Tensor:
        """Where a token is read, bool (records, length)."""
        return (tokens != self.padding) | (torch.arange(tokens.shape[1], device=tokens.device) == 0)

    def _cut(self, tokens: Tensor) -> Tensor:
        """Without the columns that hold padding alone: they change no answer."""
        used = (tokens != self.padding).any(0).nonzero()
        return tokens[:, : int(used[-1]) + 1 if len(used) else 1].contiguous()

    def _check(self, tokens: Tensor) -> None:
        if len(tokens) and (int(tokens.min()) < 0 or int(tokens.max()) >= self.vocabulary):
            raise IncompatibleError(
                f"model 'transformer' knows the token ids 0 to {self.vocabulary - 1}, got {int(tokens.min())} to "
                f"{int(tokens.max())}: give the data and the model the same tokenizer"
            )

    def _logits(self, tokens: Tensor) -> Tensor:
        kept, dtype = self._kept(tokens), self.head.weight.dtype
        remembered = None if _is_wrapped(tokens) else self._remembered(tokens)
        if remembered is not None:
            lengths = kept.sum(1)
            kept = torch.arange(int(lengths.max()), device=tokens.device) < lengths[:, None]
        mask = torch.where(kept, 0.0, HIDDEN).to(dtype)[:, None, None, :]
        if remembered is not None:
            states = nn.utils.rnn.pad_sequence(remembered, batch_first=True)
            for layer in self.encoder.encoder.layer[self.frozen_layers :]:
                states = layer(states, mask)
        else:
            # Contiguous, for Opacus's norms of embedding gradients.
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1).contiguous()
            states = self.encoder(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                token_type_ids=torch.zeros_like(tokens),
            ).last_hidden_state
        share = kept.to(dtype) / kept.sum(1, keepdim=True)
        logits: Tensor = self.head((states * share[..., None]).sum(1))
        return logits


def _own_record(record: Tensor, dtype: torch.dtype) -> Tensor:
    """An additive mask (1, 1, tokens, tokens): each token sees those of its own `record` (tokens,) alone."""
    others = record[:, None] != record
    return others.new_zeros(others.shape, dtype=dtype).masked_fill(others, torch.finfo(dtype).min)[None, None]


def _is_wrapped(tensor: Tensor) -> bool:
    """Whether torch.func is at work: its tensors have no values to look at."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def _without_buffers(encoder: nn.Module) -> None:
    """Position and type ids are given with every call; federated clients would send buffers past all protection."""
    for module in encoder.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_floating_point():
                raise IncompatibleError(f"the encoder has a buffer {name!r} of numbers, which no trainer here protects")
            delattr(module, name)
            # Looked up, though not used, where the ids are given.
            setattr(module, name, None)
