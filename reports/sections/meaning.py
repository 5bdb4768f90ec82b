"""The audit for readers who are not statisticians: the verdict, the figures as odds, and the words used."""

from __future__ import annotations

import math

from ..blocks import Block, Cell, Facts, Heading, Paragraph, Section, Table
from ..context import Context, Headline
from ..model import Finding, Interval
from ..numbers import claimed, number, shown


def build(context: Context) -> Section:
    """What the verdict means, what an epsilon allows a guesser, how the best attack did, and a glossary."""
    texts = context.texts
    blocks: list[Block] = [Paragraph(text) for text in texts.many(f"verdict.{context.audit.verdict}.meaning")]
    blocks += [Paragraph(text) for text in texts.many("meaning.how")]
    headlines = [h for h in context.headlines() if h.tested_epsilon is not None or h.certified is not None]
    if headlines:
        blocks += [Heading(texts("meaning.odds_title")), Paragraph(texts("meaning.odds")), _odds(context, headlines)]
    sentences = [s for h in context.headlines() if (s := _attack_sentence(context, h))]
    if sentences:
        blocks += [Heading(texts("meaning.attack_title")), *map(Paragraph, sentences)]
    words = tuple((texts(f"glossary.{w}.word"), texts(f"glossary.{w}.meaning")) for w in texts.many("glossary.order"))
    blocks += [Heading(texts("glossary.title")), Facts(words)]
    return Section("meaning", texts("meaning.title"), tuple(blocks))


def best_guess(epsilon: float, delta: float = 0.0) -> float:
    """The largest chance of guessing one record's membership right, from even odds, under (epsilon, delta)-DP.

    (e^epsilon + delta) / (1 + e^epsilon): balanced accuracy under the hypothesis-testing region of Kairouz, Oh and
    Viswanath (2015, arXiv 1311.0776, theorem 2.1), reached where the two error rates are equal.
    """
    return min(1.0, (1.0 + delta * math.exp(-epsilon)) / (1.0 + math.exp(-epsilon)))


def _odds(context: Context, headlines: list[Headline]) -> Table:
    texts = context.texts
    rows: list[tuple[Cell, ...]] = [("–", texts("meaning.coin"), "0", "50%")]
    for headline in headlines:
        name, delta = context.trainer_name(headline.trainer), headline.tested_delta or 0.0
        for key, epsilon, text in (
            ("claimed", headline.tested_epsilon, claimed(headline.tested_epsilon)),
            ("certified", headline.certified, shown(headline.certified)),
            ("twin", headline.twin, shown(headline.twin)),
        ):
            if epsilon is not None:
                chance = _chance(best_guess(epsilon, delta), key)
                rows.append((name, texts(f"meaning.row_{key}"), text, chance))
    return Table(texts("meaning.odds_caption"), texts.many("meaning.odds_columns"), tuple(rows), numeric=(2, 3))


def _chance(chance: float, kind: str) -> str:
    tenths = (math.ceil if kind == "claimed" else math.floor)(round(chance * 1000, 6))
    return f"{tenths / 10:g}%"


def _attack_sentence(context: Context, headline: Headline) -> str | None:
    measured = [(f, p) for f in context.findings_of(headline.trainer) if (p := _lowest_rate(f)) is not None]
    if not measured:
        return None
    finding, (rate, found) = max(measured, key=lambda pair: pair[1][1].value or 0.0)
    of_thousand = 1000 * (found.value or 0.0)
    return context.texts(
        "meaning.attack",
        trainer=context.trainer_name(headline.trainer),
        attack=finding.attack or finding.rule,
        outsiders=number(1000 * rate),
        members=number(of_thousand, digits=3),
        times=number((found.value or 0.0) / rate, digits=2),
    )


def _lowest_rate(finding: Finding) -> tuple[float, Interval] | None:
    rates = finding.metrics.tpr_at_fpr if finding.metrics else {}
    measured = [(float(rate), found) for rate, found in rates.items() if found.value is not None and float(rate) > 0]
    return min(measured, key=lambda pair: pair[0], default=None)
