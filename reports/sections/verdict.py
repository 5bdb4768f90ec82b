"""The verdict: every trainer in a sentence, what to do next, and all findings at a glance."""

from __future__ import annotations

from ..blocks import Block, Bullets, Cell, Heading, Mono, Note, Paragraph, Section, Table
from ..context import Context, Headline
from ..headline import one_line
from ..model import VERDICTS, Finding
from ..numbers import claimed, percent, shown


def build(context: Context) -> Section:
    """Sentences for the trainers that did not decide the verdict, warnings, next steps, and the table of findings."""
    texts, headlines = context.texts, context.headlines()
    blocks: list[Block] = [Paragraph(one_line(context, other)) for other in headlines[1:]]
    blocks += [Note(_near_miss(context, h), "warning") for h in headlines if h.above_claim_but_not_judged]
    steps = dict.fromkeys(step for h in headlines for step in texts.many(f"verdict.{h.verdict}.next"))
    steps = dict.fromkeys([*steps, *_reason_steps(context)])
    blocks += [Heading(texts("next.title")), Bullets(tuple(steps), ordered=True)]
    blocks += [Heading(texts("glance.title")), _table(context)]
    return Section("verdict", texts("verdict.title"), tuple(blocks))


def why(context: Context, finding: Finding) -> str:
    """The finding's reason in words, or the comparison that led to its verdict."""
    texts = context.texts
    if finding.verdict == "error" and "error" in finding.evidence:
        return _failure(context, finding)
    if finding.reason:
        return texts.find(f"reason.{finding.reason}") or finding.reason
    epsilon = finding.judged.epsilon if finding.judged else finding.bound.epsilon if finding.bound else None
    confidence = finding.judged.confidence if finding.judged else context.audit.design.violation_confidence
    if finding.claim is None or epsilon is None:
        return texts(f"why.{finding.verdict}")
    return texts(
        f"why.{finding.verdict}_figures",
        epsilon=shown(epsilon),
        claim=claimed(finding.claim.epsilon),
        confidence=percent(confidence),
    )


def _failure(context: Context, finding: Finding) -> str:
    # Messages of other people's code quote the data they stumbled over, so only the kind of error may be shared.
    error, message = str(finding.evidence["error"]), finding.evidence.get("message")
    if context.reveal and message:
        return context.texts("why.failed_message", error=error, message=str(message))
    return context.texts("why.failed_with", error=error)


def _reason_steps(context: Context) -> list[str]:
    reasons = dict.fromkeys(f.reason for f in context.audit.findings if f.reason)
    return [step for reason in reasons for step in context.texts.many(f"reason_next.{reason}")]


def _near_miss(context: Context, headline: Headline) -> str:
    return context.texts(
        "headline.near_miss",
        trainer=context.trainer_name(headline.trainer),
        confidence=percent(headline.confidence),
        judged=percent(headline.judged_confidence or context.audit.design.violation_confidence),
    )


def _table(context: Context) -> Table:
    texts = context.texts
    rows: list[tuple[Cell, ...]] = [
        (
            Mono(finding.rule),
            context.trainer_name(finding.trainer),
            finding.attack or "–",
            context.badge(finding.verdict),
            why(context, finding),
        )
        for finding in sorted(context.audit.findings, key=lambda f: VERDICTS.index(f.verdict))
    ]
    return Table(texts("glance.caption"), texts.many("glance.columns"), tuple(rows))
