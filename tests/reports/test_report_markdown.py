from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from leakgauge.reports.build import build_report
from leakgauge.reports.context import Context
from leakgauge.reports.html import to_html
from leakgauge.reports.markdown import escape, to_markdown
from leakgauge.reports.model import Interval
from leakgauge.reports.numbers import claimed, interval, number, percent, shown
from leakgauge.reports.render import render
from leakgauge.reports.schema import parse_audit
from leakgauge.reports.texts import load_texts

HOSTILE = "<script>alert(1)</script> | `*_[x](javascript:1) # no"


def markdown(audit: dict[str, Any], out: Path) -> str:
    return render(audit, out, ("md",))[0].read_text(encoding="utf-8")


def rows(text: str, caption: str) -> list[list[str]]:
    """The body of the table under `caption`, brackets unescaped."""
    after = text.split(f"**{caption}**\n\n", 1)[1].split("\n\n", 1)[0]
    lines = [line.replace("\\", "").strip("| ").split(" | ") for line in after.splitlines()]
    return lines[2:]


def same(printed: str, value: float | None, digits: int = 4) -> bool:
    """Whether a printed number is `value` up to one unit of its last significant digit."""
    if value is None:
        return printed == "–"
    slack = Decimal(10) ** (Decimal(repr(float(value))).adjusted() - digits + 1) if value else Decimal(0)
    return abs(Decimal(printed) - Decimal(repr(float(value)))) <= slack


def test_numbers_are_those_of_the_document(audit: dict[str, Any], tmp_path: Path) -> None:
    text = markdown(audit, tmp_path)
    bounded = [f for f in audit["findings"] if f["bound"]]
    table = rows(text, "Certified lower bounds, claims and ceilings")
    assert len(table) == len(bounded)
    for row, finding in zip(table, bounded, strict=True):
        bound, judged = finding["bound"], finding["judged"] or {}
        assert row[0] == f"{finding['trainer']} · {finding['attack']}"
        assert same(row[1], bound["delta"])
        assert same(row[2], finding["claim"] and finding["claim"]["epsilon"])
        assert same(row[3].split(" ")[0], bound["epsilon"])
        assert same(row[5], bound["ceiling"])
        assert same(row[4].split(" ")[0], judged.get("epsilon"))


def test_rates_are_those_of_the_document(audit: dict[str, Any], tmp_path: Path) -> None:
    table = rows(markdown(audit, tmp_path), "Attack success, each with its 95% interval in brackets")
    measured = [f for f in audit["findings"] if f["metrics"]]
    assert len(table) == len(measured)
    for row, finding in zip(table, measured, strict=True):
        metrics = finding["metrics"]
        cells = {1: metrics["auc"], 4: metrics["tpr_at_fpr"]["0.1"], 5: metrics["tpr_at_fpr"]["0.01"]}
        for column, expected in cells.items():
            printed = re.findall(r"[0-9.e-]+", row[column])
            for text, key in zip(printed, ("value", "low", "high"), strict=True):
                assert same(text, expected[key], digits=3)
        assert row[6] == "–"


def test_markdown_and_html_have_the_same_order_and_table_cells(audit: dict[str, Any], tmp_path: Path) -> None:
    report = build_report(Context(parse_audit(audit), load_texts("en")))
    text, page = to_markdown(report), to_html(report)
    titles = [section.title for section in report.sections]
    assert [line.split(". ", 1)[1] for line in text.splitlines() if line.startswith("## ")] == titles
    assert re.findall(r"</span> ([^<]+)</h2>", page) == [title.replace("'", "&#39;") for title in titles]
    assert titles[0].startswith("Verdict")
    assert titles[-1].startswith("Attestation")


def test_names_cannot_become_markup(audit: dict[str, Any], tmp_path: Path) -> None:
    audit["name"] = audit["limits"][0] = HOSTILE
    audit["findings"][0].update(attack=HOSTILE, reason=HOSTILE)
    from markdown_it import MarkdownIt

    drawn = MarkdownIt("commonmark").enable("table").render(markdown(audit, tmp_path))
    assert "<script" not in drawn
    assert 'href="javascript' not in drawn
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | `*_[x](javascript:1) # no" in drawn


@pytest.mark.parametrize(
    "text", ["1. x", "# x", "- x", "+ x", "a_b", "_a_", "*a*", "0.5", "1e-5", "a|b", "<b>", "a&lt;b"]
)
def test_escaped_text_is_shown_as_it_is(text: str) -> None:
    from html import unescape

    from markdown_it import MarkdownIt

    drawn = MarkdownIt("commonmark").render(escape(text))
    assert unescape(drawn) == f"<p>{text}</p>\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (1e-5, "1e-5"),
        (1e-3, "0.001"),
        (0.97, "0.97"),
        (1797, "1797"),
        (20000, "20,000"),
        (0.000123456, "1.235e-4"),
        (12345.678, "12350"),
        (None, "–"),
        (-0.25, "-0.25"),
        (9.99996, "10"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


def test_rounding_never_flatters() -> None:
    values = [0.42, 3.4721853, 1.626144, 4.50219, 0.00044999, 2.99999, 1.0, 0.1 + 0.2]
    for value in values:
        exact = Decimal(repr(value))
        assert Decimal(shown(value)) <= exact <= Decimal(claimed(value))
        assert Decimal(claimed(value)) - Decimal(shown(value)) <= exact * Decimal("0.0011")
    assert shown(0.42) == claimed(0.42) == "0.42"


def test_intervals_and_percentages() -> None:
    assert interval(Interval(value=0.5, low=0.25, high=0.75)) == "0.5 [0.25, 0.75]"
    assert interval(Interval(value=None, reason="too few")) == "–"
    assert interval(0.5) == "0.5"
    assert [percent(0.95), percent(0.999), percent(0.2), percent(1.0), percent(0.0)] == [
        "95%",
        "99.9%",
        "20%",
        "100%",
        "0%",
    ]
