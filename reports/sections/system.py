"""Which software and which models were audited."""

from __future__ import annotations

import json

from ..blocks import Block, Cell, Facts, Mono, Section, Table
from ..context import Context
from ..masking import hide

FIELDS = ("leakgauge", "python", "platform", "torch", "opacus", "dp_accounting", "device")


def build(context: Context) -> Section:
    """Versions, and every trainer with its settings."""
    texts, system = context.texts, context.audit.system
    versions: list[tuple[str, Cell]] = [(texts("system.audit"), context.audit.name)]
    versions += [(texts(f"system.{name}"), str(value)) for name in FIELDS if (value := getattr(system, name))]
    blocks: list[Block] = [Facts(tuple(versions))]
    rows: list[tuple[Cell, ...]] = [
        (trainer.id, trainer.name, str(trainer.models), Mono(_settings(hide(trainer.spec, reveal=context.reveal))))
        for trainer in system.trainers
    ]
    if rows:
        blocks.append(Table(texts("system.caption"), texts.many("system.columns"), tuple(rows), numeric=(2,)))
    return Section("system", texts("system.title"), tuple(blocks))


def _settings(spec: object) -> str:
    if not isinstance(spec, dict):
        return str(spec)
    return ", ".join(
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in spec.items() if value is not None
    )
