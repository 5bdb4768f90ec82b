"""Tokens that no text has: rows added to the embedding of a model, one for each new-token canary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...audit.seeds import Seeds

if TYPE_CHECKING:
    from .model import LanguageModel


@dataclass(frozen=True, slots=True)
class AlikeTokens:
    """Gives a model `count` more token ids, in place, that all start as the mean of the old rows.

    Equal rows make the probabilities of two new tokens after one text equal before fine-tuning, and to first order they
    stay equal under any change of the layers below: what then tells two new tokens apart is their own rows. Random rows
    would let every common change of the model blur that (measured: docs/language.md).
    """

    count: int

    def __call__(self, model: LanguageModel) -> None:
        """Enlarge input and output embedding, one parameter or two."""
        import torch

        inner, before = model.inner, model.vocabulary
        with torch.no_grad():
            # The library draws rows of its own, which are overwritten.
            with Seeds(0).torch_scope():
                inner.resize_token_embeddings(before + self.count, mean_resizing=False)
            tables = {id(t.weight): t for t in (inner.get_input_embeddings(), inner.get_output_embeddings())}
            for table in tables.values():
                table.weight[before:] = table.weight[:before].mean(dim=0)
                bias = getattr(table, "bias", None)
                if bias is not None:
                    bias[before:] = bias[:before].mean()
