"""Who vouches for the audit, when, with which references: from `attestation.json`, or lines to fill in by hand."""

from __future__ import annotations

from ..attestation import Attestation, Statement
from ..blocks import Block, Bullets, Cell, Code, Facts, Mono, Note, Paragraph, Section
from ..context import Context

BLANK = "______________________________"
SIGN = "leakgauge report RUN --attest attestation.toml --sign KEY.pem"
VERIFY = "leakgauge verify RUN"
VERIFY_SIGNED = "leakgauge verify RUN --key PUBLIC.pem"
FIELDS = tuple(Statement.model_fields)


def build(context: Context) -> Section:
    """The statement, what it is tied to, and how to check it."""
    texts, given = context.texts, context.attestation
    blocks: list[Block] = [Paragraph(texts("attest.intro" if given is None else "attest.given"))]
    blocks.append(Facts((*_statement(context, given), *(_digests(context, given) if given else _by_hand(context)))))
    if given is None:
        blocks += [Paragraph(texts("attest.how")), Code(SIGN, "sh")]
    else:
        blocks.append(Note(texts("attest.signed" if given.fingerprint else "attest.unsigned")))
        blocks.append(Code(VERIFY_SIGNED if given.fingerprint else VERIFY, "sh"))
    blocks.append(Bullets(texts.many("attest.keeping")))
    return Section("attestation", texts("attest.title"), tuple(blocks))


def _statement(context: Context, given: Attestation | None) -> list[tuple[str, Cell]]:
    values = {name: getattr(given, name) if given else None for name in FIELDS}
    shown = FIELDS if given is None else [name for name in FIELDS if values[name]]
    return [(context.texts(f"attest_field.{name}"), values[name] or BLANK) for name in shown]


def _digests(context: Context, given: Attestation) -> list[tuple[str, Cell]]:
    texts = context.texts
    facts: list[tuple[str, Cell]] = [
        (texts("attest.when"), given.attested),
        (texts("attest.digest"), Mono(given.audit_sha256)),
    ]
    return [*facts, (texts("attest.key"), Mono(given.fingerprint))] if given.fingerprint else facts


def _by_hand(context: Context) -> list[tuple[str, Cell]]:
    return [(context.texts("attest.signature"), BLANK)]
