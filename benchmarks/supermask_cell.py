"""One cell of `bench supermask-table`: a way of training, trained, attacked and weighed on one seed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..attacks.membership.rmia import Rmia
from ..audit.bounds.counts import GuessCounts
from ..audit.bounds.one_run import OneRun
from ..audit.canaries import CanaryEvidence, CanarySet
from ..audit.design import CoinTrials, coin_flips, paired_coin_flips
from ..audit.metrics import SplitScores, auc, operating_point
from ..audit.seeds import Seeds
from ..audit.types import BoolArray, Evidence, Job, Rows, Scores, StackedTrainer, Trained
from ..trainers.data import DataSpec, load_data
from .supermask_roster import RECORDS, Entry

ATTACK, GUESSES, CANARY_GUESSES = Rmia(references=4), 500, 400
CONFIDENCE, TESTED_DELTA = 0.95, 1e-6


@dataclass(frozen=True, slots=True)
class Sample:
    """The data of one seed: `audit` rows have coins, `public` rows are in no model; `clean` bool (public,) says whose
    label is right."""

    audit: Rows
    public: Rows
    clean: BoolArray

    @classmethod
    def draw(cls, label_noise: float, seed: int) -> Sample:
        """Digits split, and a share of labels changed, by `seed`."""
        loaded = load_data(DataSpec(seed=seed, name="digits", label_noise=label_noise), RECORDS)
        public = loaded.rows.take(~loaded.audit)
        noisy = set(loaded.noisy)
        return cls(loaded.rows.take(loaded.audit), public, np.array([r not in noisy for r in public.records]))

    def accuracy(self, trained: Trained) -> float:
        """On the public rows with the right label."""
        right = trained.target.log_probabilities(self.public.features).argmax(1) == self.public.labels
        return float(right[self.clean].mean())


def fit_all(trainer: Any, data: Rows, jobs: list[Job]) -> list[Trained]:
    """The models of `jobs`, together where the trainer can."""
    if isinstance(trainer, StackedTrainer):
        return list(trainer.fit_many(data, jobs, device="cpu"))
    return [trainer.fit(data, job.inside, seeds=job.seeds, device="cpu") for job in jobs]


def try_candidates(entry: Entry, label_noise: float, seed: int) -> dict[str, float]:
    """Accuracy of every candidate, each trained once on this tuning seed."""
    sample, seeds = Sample.draw(label_noise, seed), Seeds(seed)
    inside = coin_flips(sample.audit.records, 1, seeds=seeds.at("coins")).inside[0]
    jobs = [Job(inside, seeds.at("model"))]
    return {name: sample.accuracy(fit_all(t, sample.audit, jobs)[0]) for name, t in entry.candidates.items()}


def measure(entry: Entry, setting: str, label_noise: float, seed: int) -> dict[str, Any]:
    """Train the target and four shadows, attack, certify; what was learned, seen and sent, as plain values."""
    trainer, sample = entry.candidates[setting], Sample.draw(label_noise, seed)
    # The same coins and streams for every entry: differences between them are paired.
    seeds = Seeds(seed)
    records = sample.audit.records
    inside = np.concatenate(
        [
            coin_flips(records, 1, seeds=seeds.at("coins")).inside,
            paired_coin_flips(records, ATTACK.references, seeds=seeds.at("shadows")).inside,
        ]
    )
    jobs = [Job(row, seeds.at("model", index)) for index, row in enumerate(inside)]
    trained = fit_all(trainer, sample.audit, jobs)
    scores = ATTACK.score(_evidence(sample, trained, inside[1:]), seeds=seeds.at("attack"))
    split = SplitScores.of(scores.values, inside[0])
    claim = trained[0].claim
    return {
        "setting": setting,
        "auc": auc(scores.values, inside[0]),
        "tpr": operating_point(split, 0.01).value,
        "certified": _certified(scores, inside[0], GUESSES),
        "accuracy": sample.accuracy(trained[0]),
        "train_accuracy": float(trained[0].metrics["train_accuracy"]),
        "claim": None if claim is None else claim.epsilon_at(TESTED_DELTA),
        "unit": None if claim is None else str(claim.unit),
        "canaries": None if entry.canaries is None else _canaries(entry, trainer, sample.audit, inside[0], seeds),
        **shared(trainer, trained[0]),
    }


def shared(trainer: Any, trained: Trained) -> dict[str, float | None]:
    """Bytes of all uploads, bits a parameter of one, and bytes of the released model."""
    with tempfile.TemporaryDirectory(prefix="leakgauge-") as folder:
        trainer.save(trained, Path(folder))
        released = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    figures = trained.metrics
    return {
        "bits_per_parameter": figures.get("bits_per_parameter"),
        "upload_bytes": figures.get("upload_bytes"),
        "released_bytes": float(released),
    }


def _evidence(sample: Sample, trained: list[Trained], shadow_inside: BoolArray) -> Evidence:
    audit = np.stack([m.target.log_probabilities(sample.audit.features) for m in trained])
    public = np.stack([m.target.log_probabilities(sample.public.features) for m in trained])
    return Evidence(
        labels=sample.audit.labels,
        records=sample.audit.records,
        target=audit[0],
        shadows=audit[1:],
        shadow_inside=shadow_inside,
        population_labels=sample.public.labels,
        population_target=public[0],
        population_shadows=public[1:],
        access=ATTACK.needs.access,
    )


def _certified(scores: Scores, inside: NDArray[np.bool_], guesses: int) -> float:
    """Epsilon by the one-run bound at `TESTED_DELTA`; the number of guesses was fixed beforehand."""
    counts: GuessCounts = CoinTrials(scores.values, inside, scores.records).count(guesses)
    return OneRun().certify(counts, delta=TESTED_DELTA, confidence=CONFIDENCE).epsilon


def _canaries(entry: Entry, trainer: Any, data: Rows, inside: BoolArray, seeds: Seeds) -> float:
    """What canaries of the claim's own unit certify, in a training of their own with the target's rows."""
    attack = entry.canaries
    assert attack is not None
    ids = attack.canary_set(np.zeros(attack.canaries, np.bool_)).ids
    coins = coin_flips(ids, 1, seeds=seeds.at("canary coins")).inside[0]
    asked: CanarySet = attack.canary_set(coins)
    seen = trainer.fit_with_canaries(data, inside, asked, seeds=seeds.at("canaries"), device="cpu")
    evidence = CanaryEvidence(asked.ids, seen.transcript, seen.public, attack.needs.access, asked.unit)
    return _certified(attack.score_canaries(evidence, seeds=seeds.at("attack")), coins, CANARY_GUESSES)
