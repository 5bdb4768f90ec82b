"""Data to material: who may be a member, who is public, which canaries are crafted, and everybody's coins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .config import AuditConfig
from .design import coin_flips, paired_coin_flips
from .errors import ConfigError
from .registry import PARTS
from .seeds import Seeds
from .types import BoolArray, Rows


@dataclass(frozen=True, slots=True)
class Material:
    """The rows of an audit. `universe` = audit records, then each crafting attack's canaries: whoever may be trained.

    `parts` maps an attack's identity to the positions of its canaries in `universe`; attacks not in it play with the
    audit records, positions `audit`. `population` rows are public and in no model.
    """

    universe: Rows
    population: Rows
    audit: slice
    parts: Mapping[str, slice]
    warnings: tuple[str, ...]
    fitted_on_private: bool
    fingerprint: str
    label_noise: float

    def records_of(self, attack: str) -> slice:
        """Positions in `universe` of the records that an attack plays with."""
        return self.parts.get(attack, self.audit)

    def queried(self) -> Rows:
        """Everything any attack asks a model about: universe, then population."""
        return concatenate([self.universe, self.population], self.universe.name)


@dataclass(frozen=True, slots=True)
class Coins:
    """Membership in the target bool (universe,) and in the shadows bool (shadows, universe)."""

    target: BoolArray
    shadows: BoolArray


def prepare(config: AuditConfig, attacks: Mapping[str, Any], *, seeds: Seeds) -> Material:
    """Load, split, encode, craft canaries. Encoders are fitted on the public population by default."""
    spec = PARTS.load("data-spec").of(config.data.parameters, seed=config.audit.seed)
    table = PARTS.load("data")(spec)
    audited = PARTS.load("split")(table, config.design.audit_records, seeds=seeds.at("split"))
    encoded = PARTS.load("encode")(table, ~audited, spec)
    private, public = encoded.rows.take(audited), encoded.rows.take(~audited)
    pieces, parts, start = [private], {}, len(private)
    for identity, attack in attacks.items():
        if not getattr(attack, "crafts_records", False):
            continue
        canaries = attack.make_canaries(public, attack.canaries, seeds=seeds.at("canaries", identity))
        pieces.append(replace(canaries, records=tuple(f"{identity}/{r}" for r in canaries.records)))
        parts[identity] = slice(start, start + len(canaries))
        start += len(canaries)
    return Material(
        universe=concatenate(pieces, encoded.rows.name),
        population=public,
        audit=slice(0, len(private)),
        parts=parts,
        warnings=tuple(dict.fromkeys([*table.warnings, *encoded.warnings, *straddling(private)])),
        fitted_on_private=encoded.fitted_on_private,
        fingerprint=table.fingerprint(),
        label_noise=float(spec.label_noise or 0.0),
    )


def flip_coins(material: Material, shadows: int, *, seeds: Seeds) -> Coins:
    """Fair coins for the target, complementary pairs of them for the shadows."""
    records = material.universe.records
    target = coin_flips(records, 1, seeds=seeds.at("membership", "target")).inside[0]
    if not shadows:
        return Coins(target, np.zeros((0, len(records)), dtype=bool))
    return Coins(target, paired_coin_flips(records, shadows, seeds=seeds.at("membership", "shadows")).inside)


def straddling(rows: Rows) -> list[str]:
    """A warning when equal records flip separate coins: a member's twin may sit outside, and the attack loses power."""
    first = PARTS.load("duplicates")(rows)
    copies = int(np.sum(first != np.arange(len(rows))))
    if not copies:
        return []
    return [
        f"{copies} audit records have the same features as an earlier one; each flips its own coin, which can hide "
        "leakage but certifies none falsely"
    ]


def concatenate(pieces: list[Rows], name: str) -> Rows:
    """Rows one after another; they must agree in feature shape and classes."""
    shapes = {p.features.shape[1:] for p in pieces}
    if len(shapes) > 1:
        raise ConfigError(f"{name}: rows of different shapes {sorted(shapes)} cannot be trained on together")
    return Rows(
        np.concatenate([p.features for p in pieces]),
        np.concatenate([p.labels for p in pieces]),
        tuple(r for p in pieces for r in p.records),
        max(p.classes for p in pieces),
        name,
    )
