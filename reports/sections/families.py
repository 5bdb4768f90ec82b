"""One section a family of attacks that has more than bounds and rates: threat, figures, groups, curves, examples."""

from __future__ import annotations

from ..blocks import Block, Cell, Facts, Figure, Gallery, Heading, Note, Paragraph, Section, Table
from ..context import Context
from ..figures.lines import described, lines_figure
from ..model import Baseline, Finding, Measure, Slice
from ..numbers import interval, number, percent
from .by_threat import by_threat
from .examples import examples

MOST_SERIES = 16
MOST_SLICES = 40


def build_all(context: Context) -> tuple[Section, ...]:
    """The families in the order in which their findings stand."""
    families = dict.fromkeys(f.family for f in context.audit.findings if has_more(f))
    return tuple(_build(context, family) for family in families)


def has_more(finding: Finding) -> bool:
    """Whether a finding has anything that the overview of results does not show."""
    measures = finding.metrics.measures if finding.metrics else {}
    return bool(measures or finding.slices or finding.series or finding.examples or finding.threat)


def family_name(context: Context, family: str) -> str:
    """How a family is called; one without a text is called by its prefix."""
    return context.texts.find(f"family.{family}.name") or family.replace("-", " ").capitalize()


def measure_name(context: Context, name: str) -> str:
    """How a measure is called; one without a text is called by its key."""
    return context.texts.find(f"measure.{name}.name") or name.replace("_", " ")


def _build(context: Context, family: str) -> Section:
    texts = context.texts
    findings = [f for f in context.audit.findings if f.family == family and has_more(f)]
    blocks: list[Block] = []
    question = texts.find(f"family.{family}.meaning")
    if question:
        blocks.append(Paragraph(question, lead=True))
    blocks += by_threat(context, findings)
    blocks += [*_threats(context, findings), *_measures(context, findings), *_slices(context, findings)]
    blocks += [*_series(context, findings), *examples(context, findings)]
    return Section(f"family-{_slug(family)}", texts("families.title", family=family_name(context, family)), (*blocks,))


def _slug(family: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in family)


def _label(context: Context, finding: Finding) -> str:
    return f"{context.trainer_name(finding.trainer)} · {finding.attack or finding.rule}"


def _threats(context: Context, findings: list[Finding]) -> list[Block]:
    """One list a threat; findings under the same one share it."""
    texts = context.texts
    by_threat: dict[tuple[tuple[str, str], ...], list[Finding]] = {}
    for finding in findings:
        if finding.threat:
            by_threat.setdefault(tuple(finding.threat.items()), []).append(finding)
    if not by_threat:
        return []
    blocks: list[Block] = [Heading(texts("families.threat_title"))]
    for threat, played in by_threat.items():
        if len(by_threat) > 1:
            blocks.append(Heading(", ".join(_label(context, f) for f in played), level=4))
        rows: list[tuple[str, Cell]] = [
            (texts.find(f"threat_key.{key}") or key.replace("_", " ").capitalize(), value) for key, value in threat
        ]
        blocks.append(Facts(tuple(rows)))
    return blocks


def _measures(context: Context, findings: list[Finding]) -> list[Block]:
    texts = context.texts
    rows: list[tuple[Cell, ...]] = []
    names: dict[str, None] = {}
    for finding in findings:
        for name, measure in (finding.metrics.measures if finding.metrics else {}).items():
            names[name] = None
            rows.append(_measure_row(context, finding, name, measure))
    if not rows:
        return []
    caption = texts("families.measures_caption", confidence=percent(context.audit.design.confidence))
    table = Table(caption, texts.many("families.measure_columns"), tuple(rows), numeric=(2, 3, 4))
    meanings: list[tuple[str, Cell]] = [
        (measure_name(context, name), meaning) for name in names if (meaning := texts.find(f"measure.{name}.meaning"))
    ]
    reasons = dict.fromkeys(
        texts("families.not_measured", measure=measure_name(context, name), reason=measure.reason)
        for finding in findings
        for name, measure in (finding.metrics.measures if finding.metrics else {}).items()
        if measure.value is None and measure.reason
    )
    blocks: list[Block] = [Heading(texts("families.measures_title")), table, *map(Paragraph, reasons)]
    return [*blocks, Facts(tuple(meanings))] if meanings else blocks


def _measure_row(context: Context, finding: Finding, name: str, measure: Measure) -> tuple[Cell, ...]:
    texts = context.texts
    value = f"{interval(measure)} {measure.unit or ''}".strip()
    baseline = _baseline(measure.baseline)
    better = texts(f"families.better_{measure.better}") if measure.better else "–"
    label = _label(context, finding)
    return (label, measure_name(context, name), value, baseline, number(measure.n), better)


def _baseline(baseline: Baseline | None) -> str:
    if baseline is None:
        return "–"
    return f"{interval(baseline)} ({baseline.name})" if baseline.name else interval(baseline)


def _slices(context: Context, findings: list[Finding]) -> list[Block]:
    texts = context.texts
    found = [(finding, part) for finding in findings for part in finding.slices]
    if not found:
        return []
    rows: list[tuple[Cell, ...]] = [
        (
            _label(context, finding),
            part.slice,
            measure_name(context, part.measure) if part.measure else "–",
            interval(part),
            number(part.n),
        )
        for finding, part in sorted(found, key=lambda pair: _badness(pair[1]))[:MOST_SLICES]
    ]
    caption = texts("families.slices_caption", confidence=percent(context.audit.design.confidence))
    blocks: list[Block] = [
        Heading(texts("families.slices_title")),
        Paragraph(texts("families.slices_intro")),
        Table(caption, texts.many("families.slice_columns"), tuple(rows), numeric=(3, 4)),
    ]
    if len(found) > MOST_SLICES:
        blocks.append(Note(texts("families.slices_more", shown=str(MOST_SLICES), total=str(len(found)))))
    return blocks


def _badness(part: Slice) -> float:
    """Worst first: by the lower limit, which says what is established, else by the value."""
    found = part.low if part.low is not None else part.value
    return -found if found is not None else float("inf")


def _series(context: Context, findings: list[Finding]) -> list[Block]:
    texts = context.texts
    pairs = [(finding, series) for finding in findings for series in finding.series]
    if not pairs:
        return []
    figures = []
    for finding, series in pairs[:MOST_SERIES]:
        alt = texts("families.series_alt", title=series.title, lines=described(series))
        caption = f"{series.title} ({_label(context, finding)})"
        figures.append(Figure(lines_figure(series, alt), alt, caption))
    blocks: list[Block] = [Heading(texts("families.series_title")), Gallery(tuple(figures))]
    if len(pairs) > MOST_SERIES:
        blocks.append(Note(texts("families.series_more", shown=str(MOST_SERIES), total=str(len(pairs)))))
    return blocks
