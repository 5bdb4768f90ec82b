"""What a language model is worth beside its baselines: a model that learned nothing gives nothing away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...audit.games import Measure, Stage
from ...audit.text import TextTrainer
from ...audit.types import BoolArray, Rows, Trained

UNINFORMATIVE = "the model predicts held-out text no better than its baselines do"


@dataclass(frozen=True, slots=True)
class Quality:
    """Perplexities per token of held-out text: the model's, that of token frequencies, and of the public model if there
    is one; empty where the trainer states none."""

    perplexities: Mapping[str, float]

    @property
    def learned(self) -> bool:
        """Whether the model beats every baseline; True where none is known."""
        others = [value for name, value in self.perplexities.items() if name != "model"]
        return not others or self.perplexities["model"] < min(others)

    def measures(self) -> dict[str, Measure]:
        """One measure a perplexity."""
        return {
            f"perplexity_{name}": Measure(value, unit="per token", better=None)
            for name, value in self.perplexities.items()
        }

    def notes(self) -> tuple[str, ...]:
        """What is to be said beside the numbers of a model that learned nothing."""
        return () if self.learned else (UNINFORMATIVE,)


def quality_of(stage: Stage, trained: Trained, data: Rows, inside: BoolArray) -> Quality:
    """Perplexities of a model trained on `data.take(inside)`, on the public rows."""
    if not isinstance(stage.trainer, TextTrainer) or not len(stage.population):
        return Quality({})
    return Quality(stage.trainer.perplexities(trained, data, inside, stage.population, device=stage.device))
