"""Membership attacks on trained models: answers in, scores out, and the finding with its controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import document as doc
from .answers import Stack
from .bank import Bank, Signals, jobs_for
from .config import AuditConfig
from .controls import negative_control
from .design import coin_flips
from .exposure import exposure, write_risk
from .plugs import identity_of
from .seeds import Seeds
from .setting import Setting, how_judged, membership_of, of_unit
from .store import digest
from .trial import Certified, JudgedBy, certify, gather, score
from .types import (
    Adjacency,
    Answers,
    BoolArray,
    Claim,
    Evidence,
    Mechanism,
    Query,
    Rows,
    Scores,
    Trained,
    Trainer,
    Unit,
)
from .verdict import Circumstances, judge


@dataclass(frozen=True, slots=True)
class Answered:
    """One trainer's models as seen by queries: the target's signals, its shadows' answers, and further queries'."""

    target: Signals
    shadows: list[Signals]
    queries: Mapping[Query, Any] = field(default_factory=dict)

    def stacked(self, count: int) -> Any:
        """float32 (count, queried, classes) of the first `count` shadows, read from the store one by one."""
        if not count:
            return np.zeros((0, *self.target.log_probabilities.shape), dtype=np.float32)
        return Stack(tuple(s.source for s in self.shadows[:count]))


@dataclass(frozen=True, slots=True)
class Judged:
    """What one attack on one trainer is judged with, beside its scores."""

    claim: Claim | None
    how: JudgedBy
    unit: Unit = Unit.RECORD
    adjacency: Adjacency = Adjacency.ADD_REMOVE
    twin: Scores | None = None
    split_separates: bool = False
    reason_without_claim: str | None = None
    needs_learning: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """An attack's query as the bank puts it; stored answers are told apart by its fields and version."""

    query: Query

    @property
    def name(self) -> str:
        """The query's name."""
        return self.query.name.replace("-", "_")

    @property
    def version(self) -> str:
        """A digest of the query's class, fields and version."""
        return digest(identity_of(self.query))

    def __call__(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:
        """The model's answers, (records, ...)."""
        return self.query.ask(trained, rows, seeds=seeds, device=device)


def answers_of(setting: Setting, bank: Bank, trainer: Trainer, label: str, *, identity: str) -> Answered:
    """The target's and the shadows' answers, trained where the store lacks them."""
    wanted = setting.shadows_for(identity)
    target, shadows = jobs_for(setting.coins.target, setting.coins.shadows[:wanted], seeds=setting.seeds)
    counts = wanted_queries(setting, identity)
    # What every model is asked is asked while it is in memory; what only some are, of the stored ones.
    of_all = [Asked(query) for query, count in counts.items() if count == wanted]
    bank.train(trainer, [[target], shadows], label, of_all)
    signals = bank.signals(trainer, [target], f"{label}: target")[0]
    answered = bank.signals(trainer, shadows, f"{label}: shadows")
    queries = {
        query: bank.query(trainer, [target, *shadows[:count]], Asked(query), f"{label}: {query.name}")
        for query, count in counts.items()
    }
    return Answered(signals, answered, queries)


def wanted_queries(setting: Setting, identity: str) -> dict[Query, int]:
    """Every query that an attack on the trainer asks, with the most shadows any of them needs answers from."""
    wanted: dict[Query, int] = {}
    for attack in (setting.attacks[a] for a in setting.attacks_on(identity)):
        for query in attack.needs.queries:
            wanted[query] = max(wanted.get(query, 0), attack.needs.shadows)
    return wanted


def audit_attack(
    setting: Setting,
    part: doc.TrainerPart,
    identity: str,
    answers: Answered,
    twin_answers: Answered | None,
    split_separates: bool,
    out: Path,
) -> None:
    """One membership attack on one trainer: its scores, and what follows from them."""
    attack = setting.attacks[identity]
    claim = of_unit(part.claim, attack)
    trainer = part.identity if setting.trainers else None
    scores = attack_scores(setting, identity, answers)
    judged = Judged(
        claim,
        how_judged(setting, identity, claim, trainer),
        twin=attack_scores(setting, identity, twin_answers) if twin_answers is not None and claim else None,
        split_separates=split_separates,
        reason_without_claim="other-unit" if part.claim is not None and claim is None else None,
        extra=exposed(setting, part, identity, answers, scores, out),
    )
    conclude(
        setting,
        part,
        identity,
        scores,
        membership_of(setting, identity),
        judged,
        out,
    )


def conclude(
    setting: Setting,
    part: doc.TrainerPart,
    identity: str,
    scores: Scores,
    inside: BoolArray,
    judged: Judged,
    out: Path,
) -> None:
    """From scores and coins to metrics, bounds, the controls that belong to them, and the finding."""
    how = judged.how
    mechanism = judged.claim.mechanism if judged.claim else Mechanism()
    doc.write_scores(out / "scores" / f"{part.identity}-{identity}.parquet", scores, inside)
    metrics = doc.metrics_of(scores, inside, setting.config.audit.confidence)
    if judged.extra.get("measures"):
        metrics["measures"] = judged.extra["measures"]
    certified = negative = twin = None
    # Without coins there is no law of membership to count guesses against: metrics only, no bound.
    if setting.config.design.sampling == "coin":
        certified = certify(scores, inside, how, mechanism)
        fresh = coin_flips(scores.records, 1, seeds=setting.seeds.at("control", "permuted", part.identity, identity))
        negative = negative_control(scores, fresh.inside[0], how, mechanism)
        part.negative.append(doc.negative_figure(part.identity, identity, negative))
        part.ledger.append(doc.ledger_row(part.identity, how))
    if judged.twin is not None:
        twin = certify(judged.twin, inside, how, mechanism)
        part.positive.append(doc.positive_figure(part, identity, twin, judged.twin, inside, how, judged.claim))
    here = Circumstances(
        adjacency=judged.adjacency,
        unit=judged.unit,
        twin_epsilon=twin.judged.epsilon if twin else None,
        split_separates=judged.split_separates,
        negative_failed=negative is not None and negative.epsilon > 0,
        learned=part.utility.get("learned", True) or not judged.needs_learning,
        over_policy=over_policy(setting.config, metrics, certified),
        voids=("preprocessing.not-private",) if setting.material.fitted_on_private and judged.claim else (),
        reason_without_claim=judged.reason_without_claim,
    )
    judgement = judge(judged.claim, certified.judged if certified else None, here)
    attack = setting.attacks[identity]
    part.findings.append(
        doc.finding(part, identity, attack, judgement, certified, metrics, how, claim=judged.claim, extra=judged.extra)
    )


def attack_scores(setting: Setting, identity: str, answers: Answered) -> Scores:
    """Scores of one attack on one trainer's models."""
    evidence = evidence_of(setting, identity, answers)
    return score(setting.attacks[identity], evidence, seeds=setting.seeds.at("attack", identity))


def exposed(
    setting: Setting, part: doc.TrainerPart, identity: str, answers: Answered, scores: Scores, out: Path
) -> Mapping[str, Any]:
    """The worst slices and, where shadows can play the target, each record's risk; the records' file stays here."""
    attack = setting.attacks[identity]
    groups = setting.material.universe.take(_positions(setting.material.records_of(identity))).groups
    found = exposure(
        attack,
        evidence_of(setting, identity, answers),
        scores,
        membership_of(setting, identity),
        seeds=setting.seeds.at("exposure", identity),
        groups=groups,
        confidence=setting.config.audit.confidence,
    )
    if found.risk is not None:
        write_risk(out / "risk" / f"{part.identity}-{identity}.parquet", found.risk)
    return {"slices": found.slices, "measures": dict(found.measures)}


def _positions(records: slice) -> NDArray[np.int64]:
    return np.arange(records.start, records.stop)


def evidence_of(setting: Setting, identity: str, answers: Answered) -> Evidence:
    """What one attack may read of one trainer's models."""
    attack, material = setting.attacks[identity], setting.material
    count = attack.needs.shadows
    records, total = material.records_of(identity), len(material.universe)
    return gather(
        records,
        material.universe,
        material.population,
        answers.target.log_probabilities,
        answers.stacked(count),
        setting.coins.shadows[:count],
        setting.access,
        answers={
            q.name: split_answers(answers.queries[q], count, records, total, whole=getattr(q, "whole", False))
            for q in attack.needs.queries
        },
        with_features=attack.needs.features,
    )


def split_answers(asked: Stack, shadows: int, records: slice, total: int, *, whole: bool = False) -> Answers:
    """The answers of target and shadows to one query, cut into the records of the game and the population; uncut where
    they are about the model as a `whole`."""
    target = asked[0]
    stacked: Any = asked[1 : 1 + shadows] if shadows else np.zeros((0, *target.shape), dtype=np.float32)
    if whole:
        return Answers(target, stacked, target[:0], stacked[:0])
    return Answers(target[:total][records], stacked[:, :total][:, records], target[total:], stacked[:, total:])


def over_policy(config: AuditConfig, metrics: Mapping[str, Any], certified: Certified | None) -> str | None:
    """Which policy threshold is exceeded with the reported confidence, if any."""
    rule = config.policy.tpr_at_fpr
    if rule is not None and metrics.get("tpr_at_fpr"):
        measured = doc.tpr_at(metrics, rule.fpr)
        if measured is not None and measured["low"] > rule.max:
            return "tpr-at-fpr"
    highest = config.policy.max_epsilon
    if highest is not None and certified is not None and certified.reported.epsilon > highest:
        return "max-epsilon"
    return None
