"""Which of k candidates did the client hold? The likelihood of its upload under each, and what a claim allows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.bounds.counts import RankCounts
from ...audit.errors import ConfigError, IncompatibleError
from ...audit.games import Measure, Outcome, Stage, Trials
from ...audit.metrics.intervals import binomial_interval
from ...audit.reconstruction import success_bound
from ...audit.releases import SendsUploads, UploadFacts
from ...audit.seeds import Seeds
from ...audit.types import Access, Adjacency, Needs, PrivateTrainer, Unit
from ..parameters import require_integer, require_number
from .model import masked_model
from .uploads import chances

Floats = NDArray[np.float64]

CLIENTS = 16
"""Clients trained together."""
CERTAIN = 1e-6
"""Chances are kept so far from 0 and 1: a few simulated trainings prove no bit impossible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskCandidates:
    """`trials` clients, each with one of `candidates` records; the attacker sees one upload and names the record.

    The matched filter on masks. The attacker trains as the client does, `draws` times from each candidate with
    randomness of its own, and takes the likeliest: for bits by the mean chance of every bit, for scores and flips by
    the inner product with the mean upload, less half its square. Candidates are drawn from `pool` records, the secret
    among them by a fair die: the hits bound epsilon by `rank`, and a claim on one upload (clamped bits, noise of the
    client's own) caps the success. Without such a claim there are measures and no bound.
    """

    name: ClassVar[str] = "mask-candidates"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "inversion"
    unit: ClassVar[Unit] = Unit.CLIENT

    candidates: int = 10
    trials: int = 500
    pool: int = 50
    draws: int = 8
    delta: float = 1e-5

    def __post_init__(self) -> None:
        require_integer(self.name, "candidates", self.candidates, least=2)
        require_integer(self.name, "trials", self.trials, least=10)
        require_integer(self.name, "pool", self.pool, least=self.candidates)
        require_integer(self.name, "draws", self.draws, least=1)
        require_number(self.name, "delta", self.delta, low=0.0, high=1.0)

    @property
    def needs(self) -> Needs:
        """What one client sends."""
        return Needs(access=Access.GRADIENTS)

    def planned(self, trainer: Any) -> Trials | None:
        """What the game will count against `trainer`, the hits those of a perfect attack; None where it bounds
        nothing."""
        if not isinstance(trainer, SendsUploads):
            return None
        facts = trainer.upload_facts(1, getattr(trainer, "masked_weights", None) or 1, self.delta)
        return self._trials(self.trials, facts, claims=isinstance(trainer, PrivateTrainer))

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """All trials. `IncompatibleError` for a trainer whose clients send no masks."""
        trainer = stage.trainer
        if not isinstance(trainer, SendsUploads):
            raise IncompatibleError(
                f"attack {self.name!r}: the clients of trainer {type(trainer).__name__} send no masks: audit "
                "federated-supermask or dp-federated-supermask"
            )
        if len(stage.private) < self.pool:
            raise ConfigError(f"attack {self.name!r}: a pool of {self.pool} needs as many records: lower pool")
        module = trainer.fresh_model(stage.private, seeds=seeds.at("model"), device=stage.device)
        weights = len(masked_model(module, f"attack {self.name!r}").scores)
        facts = trainer.upload_facts(1, weights, self.delta)
        chosen = seeds.at("pool").generator().permutation(len(stage.private))[: self.pool]
        clients = _Clients(trainer, module, *_records(stage, chosen))
        secrets, drawn = self._draw(seeds.at("trials"))
        templates = clients.templates(facts, self.draws, seeds=seeds.at("simulated"))
        answers = np.empty(self.trials, np.int64)
        for start in range(0, self.trials, CLIENTS):
            part = np.arange(start, min(start + CLIENTS, self.trials))
            held = drawn[part, secrets[part]]
            for trial, sent in zip(part, clients.sent(held, seeds=seeds.at("played", start)), strict=True):
                answers[trial] = likeliest(sent, templates[drawn[trial]], facts)
            stage.progress(int(part[-1]) + 1, self.trials)
        fresh = seeds.at("redrawn").generator().integers(self.candidates, size=self.trials)
        hits, redrawn = int((answers == secrets).sum()), int((answers == fresh).sum())
        return self._outcome(hits, redrawn, facts, stage)

    def _draw(self, seeds: Seeds) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Each trial's secret place (trials,) and its candidates among the pool (trials, candidates)."""
        generator = seeds.generator()
        drawn = np.stack([generator.permutation(self.pool)[: self.candidates] for _ in range(self.trials)])
        return generator.integers(self.candidates, size=self.trials), drawn

    def _outcome(self, hits: int, redrawn: int, facts: UploadFacts, stage: Stage) -> Outcome:
        found = binomial_interval(hits, self.trials, stage.confidence)
        guess = Measure(1 / self.candidates, name="guessing")
        measures = {"success": Measure(found.value, found.low, found.high, self.trials, baseline=guess)}
        if facts.claim is not None:
            measures["largest_possible_success"] = Measure(success_bound(1 / self.candidates, facts.claim), better=None)
        words = {
            "holds": f"{facts.released}, after {facts.steps} local steps of {facts.optimizer} on one record",
            "knows": f"the global scores, the frozen weights, and {self.candidates} candidates with their labels",
            "goal": "name the candidate that the client held",
            "server": "honest but curious",
        }
        trials = self._trials(hits, facts, claims=stage.claim is not None)
        return Outcome(measures, words, None if trials is None else replace(trials, redrawn=self._counts(redrawn)))

    def _trials(self, hits: int, facts: UploadFacts, *, claims: bool) -> Trials | None:
        # A claim about sums or later views says nothing of a single upload, and must not be tested on one.
        if facts.claim is None and claims:
            return None
        counts = self._counts(hits)
        return Trials("rank", counts, self.delta, facts.claim, Unit.CLIENT, Adjacency.REPLACE_ONE)

    def _counts(self, hits: int) -> RankCounts:
        return RankCounts(runs=self.trials, hits=hits, pool=self.candidates, top=1)


@dataclass(frozen=True, slots=True)
class _Clients:
    """Clients of one record each, `features` (pool, ...) and `labels` (pool,)."""

    trainer: SendsUploads
    module: Any
    features: Any
    labels: Any

    def templates(self, facts: UploadFacts, draws: int, *, seeds: Seeds) -> Floats:
        """(pool, d): what an upload is on average, by `draws` simulated trainings of each record."""
        parts = []
        for start in range(0, len(self.labels), CLIENTS):
            rows = np.arange(start, min(start + CLIENTS, len(self.labels)))
            here, features, labels = seeds.at(start), *self._rows(rows)
            if facts.kind == "flips" or (facts.kind == "bits" and not facts.sampled):
                sent = self.trainer.client_uploads(self.module, features, labels, uploads=draws, seeds=here)
            else:
                # What is sent less its own noise, which would only blur the average.
                scores = self.trainer.client_scores(self.module, features, labels, draws=draws, seeds=here)
                sent = chances(scores, facts) if facts.sampled else self._clipped(scores, facts.clip)
            parts.append(sent.mean(axis=1))
        return np.concatenate(parts)

    def _clipped(self, scores: Floats, clip: float | None) -> Floats:
        """Changes (clients, draws, d) of the scores, as long as `clip` lets them be."""
        moved = scores - self.module.scores.detach().double().cpu().numpy()
        if clip is not None:
            moved = moved * (clip / np.maximum(np.linalg.norm(moved, axis=-1, keepdims=True), clip))
        return np.asarray(moved, np.float64)

    def sent(self, rows: NDArray[np.int64], *, seeds: Seeds) -> Floats:
        """(rows, d): one upload of a client with each of these records."""
        features, labels = self._rows(rows)
        out: Floats = self.trainer.client_uploads(self.module, features, labels, uploads=1, seeds=seeds)[:, 0]
        return out

    def _rows(self, rows: NDArray[np.int64]) -> tuple[Any, Any]:
        import torch

        index = torch.from_numpy(rows).to(self.labels.device)
        return self.features[index][:, None], self.labels[index][:, None]


def likeliest(sent: Floats, templates: Floats, facts: UploadFacts) -> int:
    """Position of the candidate, of `templates` (candidates, d), under which the upload `sent` (d,) is likeliest; -1
    where several are."""
    if facts.sampled:
        theta = np.clip(templates, CERTAIN, 1 - CERTAIN)
        scores = np.log(theta) @ sent + np.log1p(-theta) @ (1 - sent)
    else:
        scores = templates @ sent - np.square(templates).sum(axis=1) / 2
    best = np.flatnonzero(scores == scores.max())
    return int(best[0]) if len(best) == 1 else -1


def _records(stage: Stage, chosen: NDArray[np.int64]) -> tuple[Any, Any]:
    import torch

    rows = stage.private.take(chosen)
    tokens = np.issubdtype(rows.features.dtype, np.integer)
    features = np.ascontiguousarray(rows.features, np.int64 if tokens else np.float32)
    return torch.from_numpy(features).to(stage.device), torch.from_numpy(rows.labels).to(stage.device)
