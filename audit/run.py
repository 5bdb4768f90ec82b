"""The conductor: from an audit file to `audit.json` and a report. Steps are functions of stored inputs (DESIGN 4)."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import document as doc
from .bank import Bank, Signals, jobs_for, unprotected_twin
from .config import AttackSection, AuditConfig
from .controls import blind_control, negative_control
from .design import coin_flips
from .errors import LeakGaugeError
from .ledger import read_attempts, record_attempt, share_out
from .plan import delta_to_test, planned_claim
from .plugs import build
from .prepare import Coins, Material, flip_coins, prepare
from .progress import Reporter
from .registry import ATTACKS, PARTS, TRAINERS
from .seeds import Seeds
from .store import Store, file_digest, write_atomically
from .trial import Certified, JudgedBy, certify, check_access, check_method, gather, judged_by, score
from .types import Access, Attack, BoolArray, Claim, Mechanism, Scores, Trainer, Verdict
from .verdict import Circumstances, judge


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything fixed before the first training step."""

    config: AuditConfig
    seeds: Seeds
    attacks: Mapping[str, Attack]
    sections: Mapping[str, AttackSection]
    trainers: Mapping[str, Trainer]
    material: Material
    coins: Coins
    access: Access

    @property
    def shadows(self) -> int:
        """Shadow models that the hungriest attack needs."""
        return len(self.coins.shadows)


@dataclass(frozen=True, slots=True)
class Answers:
    """One trainer's models as seen by queries: the target's signals and the stacked answers of its shadows."""

    target: Signals
    shadows: list[Signals]

    def stacked(self, count: int) -> Any:
        """float32 (count, queried, classes) of the first `count` shadows."""
        if not count:
            return np.zeros((0, *self.target.log_probabilities.shape), dtype=np.float32)
        return np.stack([s.log_probabilities for s in self.shadows[:count]])


def settle(config: AuditConfig) -> Setting:
    """Build the plug-ins, load the data, flip the coins: what is wrong with a file shows here, before training."""
    seeds = Seeds(config.audit.seed)
    attacks = {
        a.identity: build(ATTACKS, a.name, a.parameters, where=f"attack.{i}") for i, a in enumerate(config.attack)
    }
    trainers = {
        t.identity: build(TRAINERS, t.name, t.parameters, where=f"trainer.{i}") for i, t in enumerate(config.trainer)
    }
    access = Access.parse(config.audit.access)
    for attack in attacks.values():
        check_access(attack, access)
    material = prepare(config, attacks, seeds=seeds)
    shadows = max(a.needs.shadows for a in attacks.values())
    coins = flip_coins(material, shadows + shadows % 2, seeds=seeds)
    sections = {a.identity: a for a in config.attack}
    setting = Setting(config, seeds, attacks, sections, trainers, material, coins, access)
    for trainer in trainers.values():
        check_judging(setting, planned_claim(setting, trainer))
    return setting


def check_judging(setting: Setting, claim: Claim | None) -> None:
    """Refuse, before any training, a file whose scores could not be judged: guesses, shares, delta, bound, policy."""
    rule = setting.config.policy.tpr_at_fpr
    if rule is not None:
        doc.check_rate(rule.fpr)
    if setting.config.design.sampling != "coin":
        return
    for identity in setting.attacks:
        how = how_judged(setting, identity, claim)
        records = setting.material.records_of(identity)
        check_method(how, records.stop - records.start, claim.mechanism if claim else Mechanism())
        if claim is not None:
            claim.epsilon_at(how.delta)


def run_audit(
    config: AuditConfig, *, out: Path, device: str, reporter: Reporter, command: str, source: str = ""
) -> dict[str, Any]:
    """Run or resume the whole audit of trained models into `out`; returns the `audit.json` document.

    A step that fails becomes a finding with verdict `error`; mistakes in the configuration raise before training.
    """
    started = now()
    with reporter.step("prepare"):
        setting = settle(config)
    out.mkdir(parents=True, exist_ok=True)
    bank = Bank(Store(out), setting.material.universe, setting.material.queried(), device, reporter)
    doc.write_membership(out / "membership.parquet", setting.material, setting.coins.target)
    with reporter.step("controls"):
        blind = blind_control(setting.material, setting.coins.target, seeds=setting.seeds.at("control", "blind"))
    parts = [audit_trainer(setting, bank, identity, blind.separates, out) for identity in setting.trainers]
    audit = doc.assemble(setting, parts, blind, reporter.timings, device)
    return finish(audit, config, out, started=started, command=command, source=source)


def audit_trainer(setting: Setting, bank: Bank, identity: str, split_separates: bool, out: Path) -> doc.TrainerPart:
    """Train, query, attack, bound and judge one trainer. Failures are recorded, never swallowed."""
    reporter = bank.reporter
    reporter.say(f"{identity}: {1 + setting.shadows} models")
    try:
        answers = answers_of(setting, bank, setting.trainers[identity], identity)
        twin = unprotected_twin(setting.trainers[identity])
        twin_answers = answers_of(setting, bank, twin, f"{identity} unprotected twin") if twin else None
        claim = doc.claim_of(answers.target)
        utility = doc.utility(setting.material, setting.coins.target, answers.target, identity)
    except (LeakGaugeError, KeyboardInterrupt):
        raise
    except Exception as error:
        return doc.failed_trainer(setting, identity, error)
    part = doc.TrainerPart(identity, claim, utility, answers.target.record)
    for attack in setting.attacks:
        try:
            with reporter.step("attack"):
                audit_attack(setting, part, attack, answers, twin_answers, split_separates, out)
        except (LeakGaugeError, KeyboardInterrupt):
            raise
        except Exception as error:
            part.findings.append(doc.error_finding(setting, identity, attack, error))
    return part


def answers_of(setting: Setting, bank: Bank, trainer: Trainer, label: str) -> Answers:
    """The target's and the shadows' answers, trained where the store lacks them."""
    target, shadows = jobs_for(setting.coins.target, setting.coins.shadows, seeds=setting.seeds)
    return Answers(
        bank.signals(trainer, [target], f"{label}: target")[0],
        bank.signals(trainer, shadows, f"{label}: shadows"),
    )


def audit_attack(
    setting: Setting,
    part: doc.TrainerPart,
    identity: str,
    answers: Answers,
    twin_answers: Answers | None,
    split_separates: bool,
    out: Path,
) -> None:
    """One attack on one trainer: scores, metrics, bounds, the controls that belong to them, and the finding."""
    inside = membership_of(setting, identity)
    how = how_judged(setting, identity, part.claim)
    mechanism = part.claim.mechanism if part.claim else Mechanism()
    scores = attack_scores(setting, identity, answers)
    doc.write_scores(out / "scores" / f"{part.identity}-{identity}.parquet", scores, inside)
    metrics = doc.metrics_of(scores, inside, setting.config.audit.confidence)

    certified = negative = twin = None
    # Without coins there is no law of membership to count guesses against: metrics only, no bound.
    if setting.config.design.sampling == "coin":
        certified = certify(scores, inside, how, mechanism)
        fresh = coin_flips(scores.records, 1, seeds=setting.seeds.at("control", "permuted", part.identity, identity))
        negative = negative_control(scores, fresh.inside[0], how, mechanism)
        part.negative.append(doc.negative_figure(part.identity, identity, negative))
        part.ledger.append(doc.ledger_row(part.identity, how))
    if twin_answers is not None:
        twin_scores = attack_scores(setting, identity, twin_answers)
        twin = certify(twin_scores, inside, how, mechanism)
        part.positive.append(doc.positive_figure(part, identity, twin, twin_scores, inside, how))

    here = Circumstances(
        twin_epsilon=twin.judged.epsilon if twin else None,
        split_separates=split_separates,
        negative_failed=negative is not None and negative.epsilon > 0,
        learned=part.utility["learned"],
        over_policy=over_policy(setting.config, metrics, certified),
        voids=("preprocessing.not-private",) if setting.material.fitted_on_private and part.claim else (),
    )
    judgement = judge(part.claim, certified.judged if certified else None, here)
    part.findings.append(doc.finding(part, identity, setting.attacks[identity], judgement, certified, metrics, how))


def attack_scores(setting: Setting, identity: str, answers: Answers) -> Scores:
    """Scores of one attack on one trainer's models."""
    attack, material = setting.attacks[identity], setting.material
    count = attack.needs.shadows
    evidence = gather(
        material.records_of(identity),
        material.universe,
        material.population,
        answers.target.log_probabilities,
        answers.stacked(count),
        setting.coins.shadows[:count],
        setting.access,
    )
    return score(attack, evidence, seeds=setting.seeds.at("attack", identity))


def how_judged(setting: Setting, identity: str, claim: Claim | None) -> JudgedBy:
    """Guesses, alpha share, delta and bound of one attack: from the file, or derived from the design alone."""
    config = setting.config
    shares = share_out({a.identity: a.alpha_share for a in config.attack})
    records = setting.material.records_of(identity)
    section = setting.sections[identity]
    confidences = (config.audit.confidence, config.audit.violation_confidence)
    size = records.stop - records.start
    delta = delta_to_test(config.audit.delta, claim, size, section, shares[identity], confidences[1])
    return judged_by(section, size, shares[identity], delta, confidences)


def over_policy(config: AuditConfig, metrics: Mapping[str, Any], certified: Certified | None) -> str | None:
    """Which policy threshold is exceeded with the reported confidence, if any."""
    rule = config.policy.tpr_at_fpr
    if rule is not None:
        measured = doc.tpr_at(metrics, rule.fpr)
        if measured is not None and measured["low"] > rule.max:
            return "tpr-at-fpr"
    highest = config.policy.max_epsilon
    if highest is not None and certified is not None and certified.reported.epsilon > highest:
        return "max-epsilon"
    return None


def finish(
    audit: dict[str, Any], config: AuditConfig, out: Path, *, started: str, command: str, source: str
) -> dict[str, Any]:
    """Add provenance, record the attempt, validate, and write `audit.json` last."""
    ledger = out / "ledger.jsonl"
    attempt = {
        "when": started,
        "config_digest": config.digest(),
        "seed": config.audit.seed,
        "verdict": audit["verdict"],
    }
    record_attempt(ledger, attempt)
    audit["provenance"] = {
        "config_digest": config.digest(),
        "config": source,
        "seed": config.audit.seed,
        "command": command,
        "started": started,
        "finished": now(),
        "attempts": list(read_attempts(ledger)),
    }
    audit["artifacts"] = [
        {
            "path": str(p.relative_to(out)),
            "sha256": file_digest(p),
            "kind": p.parent.name if p.parent != out else p.stem,
        }
        for p in sorted([out / "membership.parquet", *out.glob("scores/*.parquet")])
        if p.is_file()
    ]
    PARTS.load("validate")(audit)
    write_atomically(out / "audit.json", json.dumps(audit, indent=1, allow_nan=False))
    return audit


def exit_code(audit: Mapping[str, Any], config: AuditConfig) -> int:
    """0 nothing to object to, 1 violated or over policy, 3 underpowered if the policy says so, 4 a step failed."""
    verdict, fails = Verdict(audit["verdict"]), config.policy.fail_on
    found = {Verdict(f["verdict"]) for f in audit["findings"]}
    if any(v in found and v in fails for v in (Verdict.VIOLATED, Verdict.EXCEEDS_POLICY)):
        return 1
    if Verdict.ERROR in found or audit["status"] == "failed":
        return 4
    if verdict in fails:
        return 3
    return 0


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def membership_of(setting: Setting, identity: str) -> BoolArray:
    """The truth about the target's records in one attack's game."""
    return setting.coins.target[setting.material.records_of(identity)]
