"""The verdict in one plain sentence with its figures, and the key figures beside it."""

from __future__ import annotations

from .blocks import KeyFigure
from .context import Context, Headline
from .model import Finding
from .numbers import claimed, number, percent, shown


def sentence(context: Context) -> str:
    """The verdict, then claim, certified bound, ceiling and twin of the trainer that decided it."""
    headlines = context.headlines()
    if not headlines:
        return context.texts("headline.empty")
    return one_line(context, headlines[0])


def one_line(context: Context, headline: Headline) -> str:
    """The verdict on one trainer, its figures, and what its claim leaves out."""
    parts = (opening(context, headline), figures_sentence(context, headline), uncovered(context, headline))
    return " ".join(part for part in parts if part)


def opening(context: Context, headline: Headline) -> str:
    """What the verdict says about one trainer, in words."""
    texts, name = context.texts, context.trainer_name(headline.trainer)
    key = f"verdict.{headline.verdict}.sentence"
    if headline.verdict == "violated":
        decisive = next(f for f in context.findings_of(headline.trainer) if f.verdict == "violated")
        key = _violation_key(decisive)
        confidence = decisive.judged.confidence if decisive.judged else context.audit.design.violation_confidence
        return texts(key, trainer=name, confidence=percent(confidence))
    able = _attacks(context, headline, "consistent")
    if headline.verdict == "underpowered" and able:
        weak = _attacks(context, headline, "underpowered")
        return texts("verdict.underpowered.sentence_partly", trainer=name, weak=weak, able=able)
    return texts(key, trainer=name)


def _attacks(context: Context, headline: Headline, verdict: str) -> str:
    """The attacks on the trainer that ended with `verdict`, in the order of the audit."""
    found = [f.attack or f.rule for f in context.findings_of(headline.trainer) if f.verdict == verdict]
    return ", ".join(dict.fromkeys(found))


def uncovered(context: Context, headline: Headline) -> str:
    """A sentence on attackers against whom the claim promises nothing, or nothing."""
    return context.texts("headline.uncovered", count=str(headline.uncovered)) if headline.uncovered else ""


def _violation_key(finding: Finding) -> str:
    if finding.evidence.get("refutes") == "mechanism":
        return "verdict.violated.sentence_mechanism"
    return "verdict.violated.sentence" if finding.bound else "verdict.violated.sentence_proof"


def figures_sentence(context: Context, headline: Headline) -> str:
    """Claim; certified; ceiling; twin. Clauses without a figure are left out."""
    texts = context.texts
    clauses = [_claim_clause(context, headline)]
    if headline.certified is not None:
        key = "headline.certifies" if headline.certified > 0 else "headline.certifies_nothing"
        clauses.append(texts(key, epsilon=shown(headline.certified), confidence=percent(headline.confidence)))
    elif headline.claim is not None:
        clauses.append(texts("headline.no_bound"))
    if headline.ceiling is not None:
        clauses.append(texts("headline.ceiling", epsilon=shown(headline.ceiling)))
    if headline.twin is not None:
        clauses.append(texts("headline.twin", epsilon=shown(headline.twin)))
    present = [clause for clause in clauses if clause]
    if not present:
        return ""
    joined = texts("headline.join").join(present)
    return joined[0].upper() + joined[1:] + texts("headline.stop")


def _claim_clause(context: Context, headline: Headline) -> str:
    texts, claim = context.texts, headline.claim
    if claim is None:
        # Under the verdict `no-claim` the opening has said so already.
        spoken = headline.trainer is None or headline.verdict == "no-claim"
        return "" if spoken else texts("headline.no_claim")
    if headline.elsewhere:
        point = {"epsilon": claimed(headline.tested_epsilon), "delta": number(headline.tested_delta)}
        return texts("headline.claims_elsewhere", attack=headline.elsewhere, **point)
    values = {"epsilon": claimed(claim.epsilon), "delta": number(claim.delta)}
    if claim.tested is None or claim.tested.delta == claim.delta:
        return texts("headline.claims", **values)
    tested = {"tested_epsilon": claimed(claim.tested.epsilon), "tested_delta": number(claim.tested.delta)}
    return texts("headline.claims_tested", **values, **tested)


def key_figures(context: Context) -> tuple[KeyFigure, ...]:
    """Claimed, certified, ceiling and twin of the trainer that decided the verdict."""
    texts, headlines = context.texts, context.headlines()
    if not headlines:
        return ()
    top = headlines[0]
    delta = {"delta": number(top.tested_delta if top.tested_delta is not None else context.audit.design.delta)}
    rows: tuple[tuple[str, str, dict[str, str]], ...] = (
        ("claimed", claimed(top.tested_epsilon), delta),
        ("certified", shown(top.certified), {"confidence": percent(top.confidence)}),
        ("ceiling", shown(top.ceiling), {}),
        ("twin", shown(top.twin), {}),
    )
    return tuple(
        KeyFigure(texts(f"figures.{key}.name"), value, texts(f"figures.{key}.note", **values))
        for key, value, values in rows
    )
