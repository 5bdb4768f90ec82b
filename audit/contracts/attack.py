"""The contract of attacks: finite scores in the evidence's order, higher for members, the same from the same seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..metrics import auc
from ..seeds import Seeds
from ..types import Access, Attack, BoolArray, Evidence, Needs, Scores
from .failure import require
from .plug import check_plug

RECORDS, POPULATION, CLASSES = 400, 200, 4
LEAK = 3.0
"""By how much a member's true class gains in logits: the loss alone tells members at an AUC near 0.98."""
LEAST_AUC = 0.6


def check_attack(
    attack: Attack, *, seeds: Seeds, evidence: Evidence | None = None, inside: BoolArray | None = None
) -> None:
    """Check a membership attack on simulated models that leak plainly, or on your own `evidence` with its truth.

    Raises `ContractError` with the first promise that is broken.
    """
    check_plug(attack, "attack")
    name = f"attack {attack.name!r}"
    needs = attack.needs
    require(isinstance(needs, Needs), f"{name}: needs must be a Needs, got {type(needs).__name__}")
    if evidence is None or inside is None:
        evidence, inside = leaking_evidence(needs, seeds=seeds.at("evidence"))
    prints = _fingerprints(evidence)
    scores = attack.score(evidence, seeds=seeds.at("score"))
    require(isinstance(scores, Scores), f"{name}: score must return Scores, got {type(scores).__name__}")
    require(scores.records == evidence.records, f"{name}: scores are for other records than the evidence, or reordered")
    require(bool(np.isfinite(scores.values).all()), f"{name}: scores must be finite")
    require(_fingerprints(evidence) == prints, f"{name}: it changed the evidence")
    again = attack.score(evidence, seeds=seeds.at("score"))
    require(
        np.array_equal(scores.values, again.values),
        f"{name}: two runs with the same seeds differ; take all randomness from the seeds given",
    )
    value = auc(scores.values, inside)
    require(
        value >= LEAST_AUC,
        f"{name}: AUC {value:.3f} on models that leak plainly; higher scores must mean more likely inside",
    )
    order = seeds.at("order").generator().permutation(len(evidence.records))
    moved = attack.score(_reordered(evidence, order), seeds=seeds.at("score"))
    require(
        moved.records == tuple(evidence.records[i] for i in order)
        and np.allclose(moved.values, scores.values[order], rtol=1e-6, atol=1e-9),
        f"{name}: a record's score changes when the records are reordered",
    )


def leaking_evidence(needs: Needs, *, seeds: Seeds) -> tuple[Evidence, BoolArray]:
    """Models that gain `LEAK` in the true class's logit on members: evidence for these needs, and the truth."""
    generator = seeds.generator()
    models, total = 1 + needs.shadows, RECORDS + POPULATION
    labels = generator.integers(0, CLASSES, total)
    difficulty = generator.normal(size=total)
    inside = generator.random((models, total)) < 0.5
    # Complementary pairs, as the runner draws them: every record is outside half of the shadows.
    inside[2::2] = ~inside[1 : 1 + len(inside[2::2]) * 2 : 2]
    inside[:, RECORDS:] = False
    logits = generator.normal(size=(models, total, CLASSES))
    logits[:, np.arange(total), labels] += difficulty + LEAK * inside
    answers = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
    answers = answers.astype(np.float32)
    evidence = Evidence(
        labels=labels[:RECORDS].astype(np.int64),
        records=tuple(f"record-{i}" for i in range(RECORDS)),
        target=answers[0, :RECORDS],
        shadows=answers[1:, :RECORDS],
        shadow_inside=inside[1:, :RECORDS],
        population_labels=labels[RECORDS:].astype(np.int64),
        population_target=answers[0, RECORDS:],
        population_shadows=answers[1:, RECORDS:],
        access=needs.access | Access.LOGITS,
    )
    return evidence, inside[0, :RECORDS]


def _reordered(evidence: Evidence, order: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Evidence:
    return replace(
        evidence,
        labels=evidence.labels[order],
        records=tuple(evidence.records[i] for i in order),
        target=evidence.target[order],
        shadows=evidence.shadows[:, order],
        shadow_inside=evidence.shadow_inside[:, order],
    )


def _fingerprints(evidence: Evidence) -> tuple[bytes, ...]:
    parts = (evidence.labels, evidence.target, evidence.shadows, evidence.shadow_inside, evidence.population_target)
    return tuple(np.ascontiguousarray(part).tobytes() for part in parts)
