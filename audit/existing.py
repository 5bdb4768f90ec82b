"""Auditing a model that exists: `[target]`, `[claim]` and `[design]` in place of `[trainer]`; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import document as doc
from .accounting import dp_sgd_claim
from .attacked import Answered, audit_attack
from .bank import Signals
from .canaries import CanaryAttack
from .config import AuditConfig, ClaimSection
from .controls import blind_control
from .errors import ConfigError, IncompatibleError
from .games import Game
from .prepare import Coins, Material, straddling
from .progress import Reporter
from .registry import PARTS
from .run import finish, now
from .scores import as_bool
from .seeds import Seeds
from .setting import Setting, built_attacks, check_judging, informed
from .trial import check_access
from .types import Access, BoolArray, Claim, Mechanism, Query, Rows, Trained

IDENTITY = "target"


@dataclass(frozen=True, slots=True)
class ExistingSetting:
    """The setting of an audit without training, and the claim made for the target."""

    setting: Setting
    claim: Claim | None


def settle_existing(config: AuditConfig) -> ExistingSetting:
    """Everything checked that can be checked before the model is queried."""
    if config.design.sampling == "runs":
        raise ConfigError(
            "[design] sampling = 'runs' means one canary in each of many models; score them and use "
            "`leakgauge score SCORES --design runs`"
        )
    seeds = Seeds(config.audit.seed)
    attacks = built_attacks(config)
    access = Access.parse(config.audit.access)
    assert config.target is not None
    if config.target.labels_only and access.covers(Access.LOSS):
        raise ConfigError(
            f"[target] labels_only answers with labels, but [audit] access grants {', '.join(access.names())}: set "
            "access = ['labels'] and use attacks that need no more"
        )
    for name, attack in attacks.items():
        check_access(attack, access)
        if attack.needs.shadows or getattr(attack, "crafts_records", False) or isinstance(attack, Game | CanaryAttack):
            raise ConfigError(
                f"attack {name!r} needs shadow models or records inserted before training, but [target] trains "
                "nothing: use loss, or audit your training function with [trainer] name = 'module:attr'"
            )
    material, inside = _material(config)
    attacks = informed(attacks, material.population)
    coins = Coins(inside, np.zeros((0, len(inside)), dtype=bool))
    sections = {a.identity: a for a in config.attack}
    setting = Setting(config, seeds, attacks, sections, {}, material, coins, access)
    claim = claim_of_section(config.claim)
    check_judging(setting, IDENTITY, claim)
    return ExistingSetting(setting, claim)


def run_existing(
    config: AuditConfig, *, out: Path, device: str, reporter: Reporter, command: str, source: str = ""
) -> dict[str, Any]:
    """Query the target, attack, bound and judge; returns the `audit.json` document."""
    started = now()
    with reporter.step("prepare"):
        existing = settle_existing(config)
    setting = existing.setting
    out.mkdir(parents=True, exist_ok=True)
    doc.write_membership(out / "membership.parquet", setting.material, setting.coins.target)
    with reporter.step("query"):
        queried = setting.material.queried()
        target = PARTS.load("target")(data=queried, device=device, folder=out / "target", **_given(config))
        answers = Signals(_answers(target, queried.features, queried.classes), "existing", {})
        queries = _queried(setting, target, queried, device)
    with reporter.step("controls"):
        blind = blind_control(setting.material, setting.coins.target, seeds=setting.seeds.at("control", "blind"))
    utility = doc.utility(setting.material, setting.coins.target, answers, IDENTITY)
    part = doc.TrainerPart(IDENTITY, existing.claim, utility, {})
    for attack in setting.attacks:
        with reporter.step("attack"):
            audit_attack(setting, part, attack, Answered(answers, [], queries), None, blind.separates, out)
    audit = doc.assemble(setting, [part], blind, reporter.timings, device)
    audit["system"]["trainers"] = [_target_entry(config)]
    return finish(audit, config, out, started=started, command=command, source=source)


def _answers(target: Any, features: Any, classes: int) -> Any:
    answers = np.asarray(target.log_probabilities(features), dtype=np.float32)
    if answers.shape != (len(features), classes):
        raise IncompatibleError(
            f"the target answers with shape {answers.shape}, but the data has {len(features)} rows of {classes} classes"
        )
    return answers


def _queried(setting: Setting, target: Any, queried: Rows, device: str) -> dict[Query, Any]:
    """What the attacks' own queries give; the target is the only model asked.

    Public rows are left out where no attack reads them: somebody else's service may charge for every answer.
    """
    trained = Trained(getattr(target, "module", None), target, None, 0)
    private = queried.take(np.arange(len(setting.material.universe)))
    wanted: dict[Query, bool] = {}
    for attack in setting.attacks.values():
        for query in attack.needs.queries:
            wanted[query] = wanted.get(query, False) or attack.needs.population
    return {
        query: [
            query.ask(
                trained,
                queried if population else private,
                seeds=setting.seeds.at("query", query.name),
                device=device,
            )
        ]
        for query, population in wanted.items()
    }


def _material(config: AuditConfig) -> tuple[Material, BoolArray]:
    """Rows named in the membership file are the audit records; all others are public and in no model."""
    spec = PARTS.load("data-spec").of(config.data.parameters, seed=config.audit.seed)
    table = PARTS.load("data")(spec)
    truth = read_membership(Path(str(config.design.membership)))
    listed = np.array([r in truth for r in table.records])
    unknown = sorted(set(truth) - set(table.records))
    if unknown:
        raise ConfigError(
            f"{config.design.membership}: record {unknown[0]!r} is not in the data, whose ids look like "
            f"{table.records[0]!r}"
        )
    if listed.all() and spec.preprocessing_fit == "public":
        spec = replace(spec, preprocessing_fit="none")
    encoded = PARTS.load("encode")(table, ~listed, spec)
    private, public = encoded.rows.take(listed), encoded.rows.take(~listed)
    material = Material(
        universe=private,
        population=public,
        audit=slice(0, len(private)),
        parts={},
        warnings=tuple(dict.fromkeys([*table.warnings, *encoded.warnings, *straddling(private)])),
        fitted_on_private=False,
        fingerprint=table.fingerprint(),
        label_noise=float(spec.label_noise or 0.0),
    )
    return material, np.array([truth[r] for r in private.records])


def read_membership(path: Path) -> dict[str, bool]:
    """Record id to membership, from a csv or parquet file with columns `record` and `inside`."""
    import pandas as pd

    if not path.is_file():
        raise ConfigError(f"[design] membership: no file {path}")
    if path.suffix not in {".parquet", ".csv"}:
        raise ConfigError(f"[design] membership: {path} must be .csv or .parquet")
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    for column in ("record", "inside"):
        if column not in frame:
            raise ConfigError(f"{path}: no column {column!r}; found {', '.join(map(str, frame.columns))}")
    records = frame["record"].astype(str)
    if records.duplicated().any():
        raise ConfigError(f"{path}: record {records[records.duplicated()].iloc[0]!r} is listed twice")
    inside = as_bool(frame["inside"].to_numpy())
    return dict(zip(records.tolist(), inside.tolist(), strict=True))


def claim_of_section(section: ClaimSection | None) -> Claim | None:
    """The declared claim. With a DP-SGD mechanism its curve is known below the declared delta too; there the larger of
    the curve and the declared epsilon is what was promised."""
    if section is None:
        return None
    plain = Claim(section.epsilon, section.delta, section.unit, section.adjacency, Mechanism(section.mechanism))
    numbers = (section.noise_multiplier, section.sample_rate, section.steps)
    if section.mechanism != "dp-sgd" or None in numbers:
        return plain
    computed = dp_sgd_claim(
        noise_multiplier=float(section.noise_multiplier or 0),
        sample_rate=float(section.sample_rate or 0),
        steps=int(section.steps or 0),
        delta=section.delta,
        unit=section.unit,
        adjacency=section.adjacency,
    )
    below = tuple(
        replace(p, epsilon=max(p.epsilon, section.epsilon)) for p in computed.curve if p.delta < section.delta
    )
    return replace(
        plain, mechanism=computed.mechanism, curve=below, accountant=f"declared; curve by {computed.accountant}"
    )


def _target_entry(config: AuditConfig) -> dict[str, Any]:
    return {"id": IDENTITY, "name": "existing", "spec": _given(config), "models": 0}


def _given(config: AuditConfig) -> dict[str, Any]:
    """The keys of `[target]` that the file gives."""
    assert config.target is not None
    return config.target.model_dump(exclude_none=True, exclude_defaults=True)
