"""Everything that is fixed before the first training step: plug-ins, data, coins, and how each attack is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import document as doc
from .canaries import CanaryAttack, CanaryHost
from .config import AttackSection, AuditConfig
from .errors import IncompatibleError
from .games import Game
from .ledger import share_out
from .plan import delta_to_test, planned_claim
from .plugs import build
from .prepare import Coins, Material, flip_coins, prepare
from .registry import ATTACKS, TRAINERS, nearest
from .seeds import Seeds
from .trial import JudgedBy, check_access, check_method, judged_by
from .types import Access, BoolArray, Claim, Mechanism, Rows, Trainer, Unit


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything fixed before the first training step. `attacks` are membership attacks, canary attacks and games."""

    config: AuditConfig
    seeds: Seeds
    attacks: Mapping[str, Any]
    sections: Mapping[str, AttackSection]
    trainers: Mapping[str, Trainer]
    material: Material
    coins: Coins
    access: Access

    @property
    def shadows(self) -> int:
        """Shadow models that the hungriest attack needs."""
        return len(self.coins.shadows)

    def attacks_on(self, trainer: str) -> list[str]:
        """The attacks that run on one trainer, in the order of the file."""
        return [a for a, section in self.sections.items() if section.trainers is None or trainer in section.trainers]

    def shadows_for(self, trainer: str) -> int:
        """Shadow models of one trainer: what the hungriest attack on it needs, in complementary pairs."""
        needed = max((self.attacks[a].needs.shadows for a in self.attacks_on(trainer)), default=0)
        return needed + needed % 2


def settle(config: AuditConfig) -> Setting:
    """Build the plug-ins, load the data, flip the coins: what is wrong with a file shows here, before training."""
    seeds = Seeds(config.audit.seed)
    attacks = built_attacks(config)
    trainers = {
        t.identity: build(TRAINERS, t.name, t.parameters, where=f"trainer.{i}") for i, t in enumerate(config.trainer)
    }
    check_names(config, trainers)
    access = Access.parse(config.audit.access)
    for attack in attacks.values():
        check_access(attack, access)
    material = prepare(config, attacks, seeds=seeds)
    attacks = informed(attacks, material.population)
    shadows = max(a.needs.shadows for a in attacks.values())
    coins = flip_coins(material, shadows + shadows % 2, seeds=seeds)
    sections = {a.identity: a for a in config.attack}
    setting = Setting(config, seeds, attacks, sections, trainers, material, coins, access)
    for identity, trainer in trainers.items():
        check_judging(setting, identity, planned_claim(setting, trainer))
    return setting


def built_attacks(config: AuditConfig) -> dict[str, Any]:
    """Every attack of the file, by its identity."""
    return {a.identity: build(ATTACKS, a.name, a.parameters, where=f"attack.{i}") for i, a in enumerate(config.attack)}


def informed(attacks: Mapping[str, Any], population: Rows) -> dict[str, Any]:
    """The attacks after each that asks for it (a method `informed`) has read the public rows."""
    return {
        identity: attack.informed(population) if hasattr(attack, "informed") else attack
        for identity, attack in attacks.items()
    }


def check_names(config: AuditConfig, trainers: Mapping[str, Any]) -> None:
    """Refuse an attack on a trainer that the file does not have."""
    for position, section in enumerate(config.attack):
        for name in section.trainers or ():
            if name not in trainers:
                raise IncompatibleError(
                    f"attack.{position}.trainers: no trainer {name!r} in this file{nearest(name, list(trainers))}"
                )


def check_judging(setting: Setting, trainer: str, claim: Claim | None) -> None:
    """Refuse, before any training, a file whose scores could not be judged: guesses, shares, delta, bound, policy."""
    rule = setting.config.policy.tpr_at_fpr
    if rule is not None:
        doc.check_rate(rule.fpr)
    for identity in setting.attacks_on(trainer):
        attack = setting.attacks[identity]
        if isinstance(attack, CanaryAttack):
            check_host(setting, trainer, identity)
            claim_here = canary_claim(setting, trainer, identity)
            check_groups(attack, trainer, identity, claim_here)
        else:
            claim_here = of_unit(claim, attack)
        if isinstance(attack, Game) or setting.config.design.sampling != "coin":
            continue
        how = how_judged(setting, identity, claim_here, trainer)
        check_method(how, players(setting, identity), claim_here.mechanism if claim_here else Mechanism())
        if claim_here is not None:
            claim_here.epsilon_at(how.delta)


def check_host(setting: Setting, trainer: str, identity: str) -> None:
    """Refuse a canary attack on a trainer that does not insert its kind of canaries."""
    host, attack = setting.trainers.get(trainer), setting.attacks[identity]
    kind = attack.canary_set(np.zeros(attack.canaries, dtype=bool)).kind
    kinds = host.hosts() if isinstance(host, CanaryHost) else ()
    if kind not in kinds:
        raise IncompatibleError(
            f"attack {identity!r} needs a trainer that inserts {kind!r} canaries, but {trainer!r} inserts "
            f"{', '.join(kinds) or 'none'}: name the trainers it runs on with trainers = [...] in its section"
        )


def check_groups(attack: Any, trainer: str, identity: str, claim: Claim | None) -> None:
    """Refuse canaries inserted several times where nothing is claimed for groups: their bound is about so many records
    together, and would be read as one about a record."""
    copies = getattr(attack, "repetitions", 1)
    if claim is None and copies > 1:
        raise IncompatibleError(
            f"attack {identity!r}: repetitions = {copies} bounds groups of {copies} records, but {trainer!r} claims "
            "nothing for groups: set repetitions = 1, or name the trainers it runs on with trainers = [...]"
        )


def canary_claim(setting: Setting, trainer: str, identity: str) -> Claim | None:
    """The claim of a run with an attack's canaries, against its observer, from public sizes alone."""
    host, attack = setting.trainers[trainer], setting.attacks[identity]
    assert isinstance(host, CanaryHost)
    canaries = attack.canary_set(np.zeros(attack.canaries, dtype=bool))
    return host.planned_canary_claim(len(setting.material.universe) // 2, canaries)


def of_unit(claim: Claim | None, attack: Any) -> Claim | None:
    """The claim if it protects the unit that the attack plays with: one of another unit is neither tested nor
    supported by it."""
    return claim if claim is not None and claim.unit == getattr(attack, "unit", Unit.RECORD) else None


def players(setting: Setting, identity: str) -> int:
    """How many coins an attack guesses: the records or canaries it plays with."""
    attack = setting.attacks[identity]
    if isinstance(attack, CanaryAttack):
        return int(attack.canaries)
    records = setting.material.records_of(identity)
    return int(records.stop - records.start)


def how_judged(setting: Setting, identity: str, claim: Claim | None, trainer: str | None = None) -> JudgedBy:
    """Guesses, alpha share, delta and bound of one attack: from the file, or derived from the design alone."""
    config = setting.config
    share = alpha_share(setting, identity, trainer)
    section = setting.sections[identity]
    confidences = (config.audit.confidence, config.audit.violation_confidence)
    size = players(setting, identity)
    delta = delta_to_test(config.audit.delta, claim, size, section, share, confidences[1])
    return judged_by(section, size, share, delta, confidences)


def alpha_share(setting: Setting, identity: str, trainer: str | None) -> float:
    """The share of one attack: shares are split over the attacks on one trainer, which test one claim together."""
    rivals = setting.attacks_on(trainer) if trainer is not None else list(setting.attacks)
    return share_out({a: setting.sections[a].alpha_share for a in rivals})[identity]


def membership_of(setting: Setting, identity: str) -> BoolArray:
    """The truth about the target's records in one attack's game."""
    return setting.coins.target[setting.material.records_of(identity)]
