"""One cell: one data set, one way of training, every attack on the same models."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.design import coin_flips, paired_coin_flips
from ...audit.metrics import SplitScores, auc, operating_point
from ...audit.seeds import Seeds
from ...audit.types import Answers, BoolArray, Evidence, Job, Query, Rows, Trained, Trainer
from .roster import Entry

RATES = (0.01, 0.001)


@dataclass(slots=True)
class Arena:
    """Trained models of one cell and what they answer: targets first, then shadows in complementary pairs.

    Everything asked is kept, since attacks share queries.
    """

    audit: Rows
    population: Rows
    inside: BoolArray
    targets: int
    trained: Sequence[Trained]
    seeds: Seeds
    seconds: float
    log_probabilities: NDArray[np.float32] = field(init=False)
    asked: dict[tuple[Query, int], NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        features = self.queried().features
        self.log_probabilities = np.stack([m.target.log_probabilities(features) for m in self.trained])

    def queried(self) -> Rows:
        """Audit rows, then population rows."""
        features = np.concatenate([self.audit.features, self.population.features])
        labels = np.concatenate([self.audit.labels, self.population.labels])
        ids = tuple(f"audit/{r}" for r in self.audit.records) + tuple(f"public/{r}" for r in self.population.records)
        return Rows(features, labels, ids, self.audit.classes, self.audit.name)

    def evidence(self, entry: Entry, target: int) -> Evidence:
        """What the attacker of one target sees with this attack."""
        needs = entry.attack.needs
        models = [target, *range(self.targets, self.targets + needs.shadows)]
        n = len(self.audit)
        logs = self.log_probabilities[models]
        return Evidence(
            labels=self.audit.labels,
            records=self.audit.records,
            target=logs[0, :n],
            shadows=logs[1:, :n],
            shadow_inside=self.inside[models[1:]],
            population_labels=self.population.labels,
            population_target=logs[0, n:],
            population_shadows=logs[1:, n:],
            access=needs.access,
            answers={query.name: self._answers(query, models) for query in needs.queries},
            features=self.audit.features if needs.features else None,
            population_features=self.population.features if needs.features else None,
        )

    def accuracies(self) -> tuple[float, float]:
        """Mean accuracy of all models on their own training records and on population records."""
        n = len(self.audit)
        guesses = self.log_probabilities.argmax(axis=2)
        right = guesses[:, :n] == self.audit.labels
        return float(right[self.inside].mean()), float((guesses[:, n:] == self.population.labels).mean())

    def _answers(self, query: Query, models: Sequence[int]) -> Answers:
        rows, seeds, n = self.queried(), self.seeds.at("query", query.name), len(self.audit)
        for model in models:
            if (query, model) not in self.asked:
                answer = query.ask(self.trained[model], rows, seeds=seeds, device="cpu")
                self.asked[query, model] = np.asarray(answer, dtype=np.float32)
        stacked = np.stack([self.asked[query, model] for model in models])
        return Answers(stacked[0, :n], stacked[1:, :n], stacked[0, n:], stacked[1:, n:])


def arena(trainer: Trainer, audit: Rows, population: Rows, *, targets: int, shadows: int, seeds: Seeds) -> Arena:
    """Train targets, by independent coins, and shadows, by complementary pairs of them, in one stack on the CPU."""
    inside = np.concatenate(
        [
            coin_flips(audit.records, targets, seeds=seeds.at("targets")).inside,
            paired_coin_flips(audit.records, shadows, seeds=seeds.at("shadows")).inside,
        ]
    )
    jobs = [Job(row, seeds.at("model", index)) for index, row in enumerate(inside)]
    started = time.perf_counter()
    trained = trainer.fit_many(audit, jobs, device="cpu")  # type: ignore[attr-defined]
    return Arena(audit, population, inside, targets, trained, seeds, time.perf_counter() - started)


def measured(entry: Entry, played: Arena) -> dict[str, Any]:
    """A row of the cell: AUC and TPR at low FPR for every target, seconds a target; or the error that ended it."""
    started = time.perf_counter()
    values: dict[str, list[float | None]] = {"auc": [], **{f"tpr_at_{rate:g}": [] for rate in RATES}}
    try:
        for target in range(played.targets):
            seeds = played.seeds.at("attack", entry.label, target)
            scores = entry.attack.score(played.evidence(entry, target), seeds=seeds).values
            truth = played.inside[target]
            values["auc"].append(auc(scores, truth))
            for rate in RATES:
                values[f"tpr_at_{rate:g}"].append(operating_point(SplitScores.of(scores, truth), rate).value)
    except Exception as error:
        message = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return {"attack": entry.label, "needs": entry.needs, "error": message}
    seconds = (time.perf_counter() - started) / played.targets
    return {"attack": entry.label, "needs": entry.needs, "error": None, "seconds": seconds, **values}


def play(entries: Sequence[Entry], played: Arena, say: Callable[[str], None]) -> dict[str, Any]:
    """Every attack on the cell's models, and how well the models learned."""
    rows = []
    for entry in entries:
        row = measured(entry, played)
        rows.append(row)
        if row["error"]:
            say(f"    {entry.label}: {row['error']}")
    train, test = played.accuracies()
    claim = played.trained[0].claim
    return {
        "records": len(played.audit),
        "population": len(played.population),
        "train_accuracy": train,
        "test_accuracy": test,
        "claimed_epsilon": None if claim is None else claim.epsilon,
        "training_seconds": played.seconds,
        "rows": rows,
    }
