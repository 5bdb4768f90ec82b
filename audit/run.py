"""The conductor: from an audit file to `audit.json` and a report. Steps are functions of stored inputs (DESIGN 4)."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import document as doc
from .attacked import Answered, answers_of, audit_attack
from .bank import Bank, jobs_for, unprotected_twin
from .canaries import CanaryAttack
from .communication import communication
from .config import AuditConfig
from .controls import blind_control
from .errors import LeakGaugeError
from .execution import executor_named
from .games import Game
from .hosted import audit_canaries
from .ledger import read_attempts, record_attempt
from .plan import planned_claim
from .played import audit_game, trains_alone
from .plays import play_ahead
from .progress import Reporter
from .registry import PARTS
from .representation import RepresentationTrainer, representation_utility
from .setting import Setting, of_unit, settle
from .store import Store, file_digest, write_atomically
from .types import Claim, Verdict


def run_audit(
    config: AuditConfig,
    *,
    out: Path,
    device: str,
    reporter: Reporter,
    command: str,
    source: str = "",
    executor: str = "local",
) -> dict[str, Any]:
    """Run or resume the whole audit of trained models into `out`; returns the `audit.json` document.

    A step that fails becomes a finding with verdict `error`; mistakes in the configuration raise before training.
    """
    started = now()
    runs = executor_named(executor, reporter.say)
    with reporter.step("prepare"):
        setting = settle(config)
    out.mkdir(parents=True, exist_ok=True)
    bank = Bank(Store(out), setting.material.universe, setting.material.queried(), device, reporter, runs)
    doc.write_membership(out / "membership.parquet", setting.material, setting.coins.target)
    with reporter.step("controls"):
        blind = blind_control(setting.material, setting.coins.target, seeds=setting.seeds.at("control", "blind"))
    play_ahead(setting, bank)
    parts = [audit_trainer(setting, bank, identity, blind.separates, out) for identity in setting.trainers]
    audit = doc.assemble(setting, parts, blind, reporter.timings, device)
    return finish(audit, config, out, started=started, command=command, source=source)


def audit_trainer(setting: Setting, bank: Bank, identity: str, split_separates: bool, out: Path) -> doc.TrainerPart:
    """Train, query, attack, bound and judge one trainer. Failures are recorded, never swallowed."""
    reporter = bank.reporter
    attacks = setting.attacks_on(identity)
    reporter.say(f"{identity}: {1 + setting.shadows_for(identity)} models")
    try:
        part, answers, twin_answers = begun(setting, bank, identity)
    except (LeakGaugeError, KeyboardInterrupt):
        raise
    except Exception as error:
        return doc.failed_trainer(setting, identity, error)
    for name in attacks:
        attack = setting.attacks[name]
        try:
            if isinstance(attack, Game):
                audit_game(setting, part, name, bank)
            elif isinstance(attack, CanaryAttack):
                audit_canaries(setting, part, name, bank, out)
            else:
                assert answers is not None
                with reporter.step("attack"):
                    audit_attack(setting, part, name, answers, twin_answers, split_separates, out)
        except (LeakGaugeError, KeyboardInterrupt):
            raise
        except Exception as error:
            part.findings.append(doc.error_finding(setting, identity, name, error))
    return part


def begun(setting: Setting, bank: Bank, identity: str) -> tuple[doc.TrainerPart, Answered | None, Answered | None]:
    """One trainer's part of the document before any attack, its models' answers and those of its unprotected twin.

    No target is trained where nothing would ask it: labels there are none, and every attack is a game that says that it
    trains its own models (`needs_target = False`).
    """
    trainer, attacks = setting.trainers[identity], [setting.attacks[a] for a in setting.attacks_on(identity)]
    labelled = setting.material.universe.classes > 1 or isinstance(trainer, RepresentationTrainer)
    if not labelled and all(trains_alone(a) for a in attacks):
        return doc.TrainerPart(identity, planned_claim(setting, trainer), {}, {}), None, None
    answers = answers_of(setting, bank, trainer, identity, identity=identity)
    claim = doc.claim_of(answers.target)
    twin_answers = twin_answers_of(setting, bank, identity, claim)
    utility = utility_of(setting, bank, identity, answers)
    sent = communication(identity, answers.target.record, bank.store.path("models", answers.target.key))
    part = doc.TrainerPart(identity, claim, utility, answers.target.record, communication=sent)
    return part, answers, twin_answers


def utility_of(setting: Setting, bank: Bank, identity: str, answers: Answered) -> dict[str, Any]:
    """How good the target is at its task: naming labels, or describing records where it never saw a label."""
    trainer = setting.trainers[identity]
    if not isinstance(trainer, RepresentationTrainer):
        return doc.utility(setting.material, setting.coins.target, answers.target, identity)
    target, _ = jobs_for(setting.coins.target, setting.coins.shadows[:0], seeds=setting.seeds)
    model: Any = bank.trained(trainer, target, f"{identity}: target").target
    seeds, public = setting.seeds.at("probe"), setting.material.population
    untrained = trainer.untrained(public, seeds=seeds.at("init", identity), device=bank.device)
    found = representation_utility(model, untrained, public, seeds=seeds)
    return {"trainer": identity, **found} if found else {}


def twin_answers_of(setting: Setting, bank: Bank, identity: str, claim: Claim | None) -> Answered | None:
    """The unprotected twin's answers, where a membership attack tests the claim and so needs a positive control."""
    twin = unprotected_twin(setting.trainers[identity])
    attacks = [setting.attacks[a] for a in setting.attacks_on(identity)]
    tested = [a for a in attacks if not isinstance(a, Game | CanaryAttack) and of_unit(claim, a) is not None]
    if twin is None or not tested:
        return None
    return answers_of(setting, bank, twin, f"{identity} unprotected twin", identity=identity)


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
    audit = PARTS.load("withhold")(audit, out / "private.json")
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
