"""Digests, attempts and artefacts: what identifies this run."""

from __future__ import annotations

from ..blocks import Block, Cell, Facts, Mono, Paragraph, Section, Table
from ..context import Context
from ..numbers import seconds


def build(context: Context) -> Section:
    """What identifies this run, every attempt before it, and its files."""
    texts, provenance = context.texts, context.audit.provenance
    facts: list[tuple[str, Cell]] = [(texts("provenance.config_digest"), Mono(provenance.config_digest))]
    if provenance.seed is not None:
        facts.append((texts("provenance.seed"), Mono(str(provenance.seed))))
    facts += [
        (texts(f"provenance.{name}"), value)
        for name in ("started", "finished")
        if (value := getattr(provenance, name)) is not None
    ]
    facts += [(texts("provenance.schema"), Mono(context.audit.version))]
    if context.audit.timings:
        spent = ", ".join(f"{name} {seconds(value)}" for name, value in context.audit.timings.items())
        facts.append((texts("provenance.timings"), spent))
    blocks: list[Block] = [Facts(tuple(facts)), *_attempts(context), *_artifacts(context)]
    return Section("provenance", texts("provenance.title"), tuple(blocks))


def _attempts(context: Context) -> list[Block]:
    texts, attempts = context.texts, context.audit.provenance.attempts
    if not attempts:
        return [Paragraph(texts("provenance.no_attempts"))]
    rows: list[tuple[Cell, ...]] = [
        (
            attempt.when,
            Mono(attempt.config_digest),
            "–" if attempt.seed is None else str(attempt.seed),
            context.badge(attempt.verdict) if attempt.verdict else "–",
        )
        for attempt in attempts
    ]
    return [
        Paragraph(texts("provenance.attempts_intro")),
        Table(texts("provenance.attempts_caption"), texts.many("provenance.attempts_columns"), tuple(rows)),
    ]


def _artifacts(context: Context) -> list[Block]:
    texts = context.texts
    rows: list[tuple[Cell, ...]] = [
        (Mono(artifact.path), artifact.kind, Mono(artifact.sha256)) for artifact in context.audit.artifacts
    ]
    if not rows:
        return []
    return [Table(texts("provenance.artifacts_caption"), texts.many("provenance.artifacts_columns"), tuple(rows))]
