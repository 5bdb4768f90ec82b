"""What is promised: epsilon and delta with unit, adjacency, mechanism, accountant and assumptions."""

from __future__ import annotations

from ..blocks import Block, Bullets, Cell, Details, Facts, Heading, Note, Paragraph, Section, Table
from ..context import Context
from ..model import Claim
from ..numbers import claimed, number

LONGEST_OPEN = 8
"""A longer curve folds away."""


def build(context: Context) -> Section:
    """One part a claim; models without a claim are named."""
    texts, claims = context.texts, context.audit.claims
    blocks: list[Block] = [Paragraph(texts("claim.intro" if claims else "claim.none"))]
    for claim in claims:
        blocks += _one(context, claim)
    silent = [t.id for t in context.audit.system.trainers if context.claim_of(t.id) is None]
    if claims and silent:
        blocks.append(Paragraph(texts("claim.silent", trainers=", ".join(silent))))
    return Section("claim", texts("claim.title"), tuple(blocks))


def _one(context: Context, claim: Claim) -> list[Block]:
    texts = context.texts
    parameters = ", ".join(f"{key} {_value(value)}" for key, value in claim.mechanism.parameters().items())
    facts: list[tuple[str, Cell]] = [
        (texts("claim.epsilon"), claimed(claim.epsilon)),
        (texts("claim.delta"), number(claim.delta)),
    ]
    if claim.tested:
        value = texts("claim.tested_value", epsilon=claimed(claim.tested.epsilon), delta=number(claim.tested.delta))
        facts.append((texts("claim.tested"), value))
    facts += [
        (texts("claim.unit"), texts.find(f"unit.{claim.unit}") or claim.unit),
        (texts("claim.adjacency"), texts.find(f"adjacency.{claim.adjacency}") or claim.adjacency),
        (texts("claim.mechanism"), f"{claim.mechanism.name} ({parameters})" if parameters else claim.mechanism.name),
        (texts("claim.accountant"), claim.accountant),
        (texts("claim.cross_check"), _cross_check(context, claim)),
    ]
    blocks: list[Block] = [Heading(texts("claim.of", trainer=claim.trainer)), Facts(tuple(facts))]
    if claim.cross_check and claim.cross_check.agrees is False:
        blocks.append(Note(texts("claim.disagrees"), "warning"))
    if claim.assumes:
        blocks += [Paragraph(texts("claim.assumes")), Bullets(tuple(claim.assumes))]
    else:
        blocks.append(Paragraph(texts("claim.assumes_nothing")))
    if claim.curve:
        rows: list[tuple[Cell, ...]] = [(number(point.delta), claimed(point.epsilon)) for point in claim.curve]
        caption = texts("claim.curve", trainer=claim.trainer)
        table = Table(caption, texts.many("claim.curve_columns"), tuple(rows), numeric=(0, 1))
        blocks.append(table if len(rows) <= LONGEST_OPEN else Details(caption, (table,)))
    return blocks


def _cross_check(context: Context, claim: Claim) -> str:
    check = claim.cross_check
    if check is None:
        return context.texts("claim.no_cross_check")
    figures = [("pld", check.pld), ("prv", check.prv), ("rdp", check.rdp)]
    shown = [f"{name} {claimed(value)}" for name, value in figures if value is not None]
    if check.gdp is not None:
        shown.append(context.texts("claim.not_upper", name="gdp", epsilon=claimed(check.gdp)))
    shown += [f"{name}: {reason}" for name, reason in check.reasons.items()]
    return ", ".join(shown)


def _value(value: object) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
