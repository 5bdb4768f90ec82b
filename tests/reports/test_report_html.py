from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leakgauge.audit.errors import ConfigError
from leakgauge.reports.figures.roc import MOST_POINTS, allowed_rate, thin
from leakgauge.reports.html import TEMPLATES
from leakgauge.reports.model import TestedClaim as ClaimPoint
from leakgauge.reports.render import FORMATS, render
from leakgauge.reports.sections.meaning import best_guess
from leakgauge.reports.texts import languages

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr", "col"}
HOSTILE = "<script>alert(1)</script>\"'&`|*_[x](javascript:1)"


class Page(HTMLParser):
    """Keeps what the tests ask about, and whether tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.mismatched: list[str] = []
        self.tables: list[dict[str, int]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag == "table":
            self.tables.append({"th": 0, "scoped": 0, "caption": 0})
        elif self.tables and tag in {"th", "caption"}:
            self.tables[-1][tag] += 1
            self.tables[-1]["scoped"] += tag == "th" and values.get("scope") in {"col", "row"}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.mismatched.append(tag)


def html(audit: dict[str, Any], out: Path, **options: Any) -> str:
    return render(audit, out, ("html",), **options)[0].read_text(encoding="utf-8")


def without_curves(audit: dict[str, Any]) -> dict[str, Any]:
    """The document without what takes long to draw."""
    for finding in audit["findings"]:
        if finding["metrics"]:
            finding["metrics"]["roc"] = None
    return audit


def test_the_same_document_gives_the_same_bytes(audit: dict[str, Any], tmp_path: Path) -> None:
    first = render(audit, tmp_path / "a", tuple(FORMATS))
    again = render(json.loads(json.dumps(audit)), tmp_path / "b", tuple(FORMATS))
    assert [p.name for p in first] == [name for name, _ in FORMATS.values()]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]


def test_bytes_do_not_depend_on_the_process(builder: Any, tmp_path: Path) -> None:
    path = builder.write(tmp_path)
    code = (
        "import json, sys, time; from pathlib import Path; from leakgauge.reports.render import render;"
        f"render(json.loads(Path({str(path)!r}).read_text()), Path(sys.argv[1]));"
        "assert not {'torch', 'opacus', 'transformers', 'pandas', 'sklearn'} & set(sys.modules);"
        # Processor time: the contract's 5 s hold however busy the machine is.
        "assert time.process_time() < 5, time.process_time()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=True, env={"PYTHONHASHSEED": "1"})
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], check=True, env={"PYTHONHASHSEED": "2"})
    for name in ("report.html", "report.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("language", languages())
@pytest.mark.parametrize("plain", [True, False])
def test_page_is_well_formed_and_self_contained(builder: Any, tmp_path: Path, plain: bool, language: str) -> None:
    text = html(builder.sample(plain=plain), tmp_path, language=language)
    page = Page(text)
    assert not page.mismatched
    assert not page.open
    assert len(text.encode()) < 3_000_000
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object", "img"} & set(names)
    assert "@import" not in text
    assert "url(http" not in text
    for tag, values in page.tags:
        outside = [v for k, v in values.items() if k in {"src", "href", "xlink:href"} and v and not v.startswith("#")]
        assert tag == "a" or not outside
        assert all(value.startswith("https://") for value in outside)
        assert not any(key.startswith("on") for key in values)


def test_page_is_accessible(audit: dict[str, Any], tmp_path: Path) -> None:
    page = Page(html(audit, tmp_path))
    by_tag = {tag: values for tag, values in page.tags}
    assert by_tag["html"]["lang"] == "en"
    assert "title" in by_tag
    assert "main" in by_tag
    assert all(table["th"] == table["scoped"] > 0 and table["caption"] == 1 for table in page.tables)
    charts = [values for tag, values in page.tags if tag == "svg"]
    assert len(charts) >= 5
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    headings = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3", "h4"}]
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))


def test_ids_are_unique_and_references_resolve(audit: dict[str, Any], tmp_path: Path) -> None:
    page = Page(html(audit, tmp_path))
    ids = [values["id"] for _, values in page.tags if values.get("id")]
    assert len(ids) == len(set(ids))
    for _, values in page.tags:
        for key in ("href", "xlink:href", "clip-path", "aria-labelledby"):
            value = (values.get(key) or "").removeprefix("url(").removesuffix(")")
            if value.startswith("#") or key == "aria-labelledby":
                assert not value or value.removeprefix("#") in ids


def test_names_cannot_become_markup(audit: dict[str, Any], tmp_path: Path) -> None:
    audit["name"] = HOSTILE
    audit["limits"] = [HOSTILE]
    audit["system"]["data"]["warnings"] = [HOSTILE]
    audit["provenance"]["command"] = audit["provenance"]["config"] = HOSTILE
    for finding in audit["findings"]:
        finding.update(attack=HOSTILE, reason=HOSTILE, evidence={HOSTILE: HOSTILE})
    for part in (*audit["claims"], *audit["utility"]):
        part["trainer"] = HOSTILE
    for finding in audit["findings"][:2]:
        finding["trainer"] = HOSTILE
    text = html(audit, tmp_path, reveal=True)
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not page.mismatched
    assert "&lt;script&gt;" in text
    assert not any("javascript:" in (values.get("href") or "") for _, values in page.tags)


def test_personal_evidence_is_hidden_unless_revealed(audit: dict[str, Any], tmp_path: Path) -> None:
    without_curves(audit)
    secrets = ("jane.doe@example.org", "secret phrase", "Jane Doe of Springfield")
    for path in render(audit, tmp_path / "hidden", tuple(FORMATS)):
        text = path.read_text(encoding="utf-8")
        assert not any(secret in text for secret in secrets), path.name
        assert "CONTAINS PERSONAL DATA" not in text
    for path in render(audit, tmp_path / "shown", reveal=True):
        text = path.read_text(encoding="utf-8")
        assert all(secret in text for secret in secrets), path.name
        assert "CONTAINS PERSONAL DATA" in text


def test_many_findings_stay_small(audit: dict[str, Any], tmp_path: Path) -> None:
    template = audit["findings"][1]
    audit["findings"] += [{**template, "attack": f"attack-{index}"} for index in range(150)]
    started = time.process_time()
    text = html(audit, tmp_path)
    # Processor time: the contract's 5 s hold however busy the machine is.
    assert time.process_time() - started < 5
    assert len(text.encode()) < 3_000_000
    assert "attack-149" in text
    assert text.count("Log-log ROC") == 24
    assert "24 of " in text


def test_bare_documents_render(audit: dict[str, Any], tmp_path: Path) -> None:
    """Scores only, everything optional absent; and no finding at all."""
    bare = {
        "schema": audit["schema"],
        "name": "scores",
        "status": "ok",
        "verdict": "underpowered",
        "system": {"leakgauge": "0.1.0"},
        "design": {"sampling": "unknown", "confidence": 0.95},
        "provenance": {"config_digest": "0"},
    }
    render(bare, tmp_path, tuple(FORMATS))
    bare["findings"] = [{"rule": "static.sampler", "verdict": "underpowered", "reason": "not run"}]
    for path in render(bare, tmp_path, tuple(FORMATS)):
        assert "not run" in path.read_text()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"evidence": {"refutes": "mechanism"}}, "not trained by the mechanism"),
        ({"bound": None, "judged": None, "metrics": None}, "without any statistics"),
        ({}, "leaks more than it promises (judged at 99.9% confidence)"),
    ],
)
def test_kinds_of_violation_are_told_apart(
    audit: dict[str, Any], tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    without_curves(audit)["findings"][0].update(change)
    assert sentence in html(audit, tmp_path)


def test_a_bound_above_the_claim_that_is_not_judged_is_pointed_out(builder: Any, tmp_path: Path) -> None:
    audit = without_curves(builder.sample(plain=True))
    assert "but not at the 99.9%" not in html(audit, tmp_path)
    audit["findings"][2]["bound"]["epsilon"] = 3.6
    assert "but not at the 99.9%" in html(audit, tmp_path)


def test_conditional_bounds_never_reach_the_headline(builder: Any, tmp_path: Path) -> None:
    audit = without_curves(builder.sample(plain=True))
    for change in ({"validity": "bayesian"}, {"null_class": "gdp"}):
        extra = json.loads(json.dumps(audit["findings"][2]))
        extra["bound"].update({"epsilon": 9.87, **change})
        audit["findings"].append(extra)
    group = json.loads(json.dumps(audit["findings"][2]))
    group["claim"]["epsilon"], group["bound"]["epsilon"] = 50.0, 9.87
    audit["findings"].append(group)
    head = html(audit, tmp_path).split("<main", 1)[0]
    assert "9.87" not in head


def test_the_headline_is_about_the_point_that_decided(builder: Any, tmp_path: Path) -> None:
    """A claim may amount to another epsilon for one attack, and cover another not at all."""
    audit = without_curves(builder.sample(plain=True))
    covered = audit["findings"][2]
    outside = json.loads(json.dumps(covered))
    outside.update(verdict="no-claim", claim=None, judged=None, attack="server", reason="observer-not-covered")
    outside["bound"]["epsilon"] = 4.4
    audit["findings"] = [covered, outside]
    text = re.sub(r"\s+", " ", html(audit, tmp_path).split("<main", 1)[0])
    assert "4.4" not in text
    assert "Nothing found contradicts the promise of dp-sgd" in text
    assert "1 concern attackers who see more than the promise covers" in text
    weaker = json.loads(json.dumps(covered))
    weaker.update(verdict="underpowered", attack="single", claim={"epsilon": 8.6, "delta": 1e-6})
    audit["findings"].append(weaker)
    audit["verdict"] = "underpowered"
    text = html(audit, tmp_path).split("<main", 1)[0]
    assert "for the attack single its claim amounts to epsilon 8.6 at delta 1e-6" in text.lower()
    # One attack that could see a violation and found none is not overruled in words by one that could not.
    plain = re.sub(r"\s+", " ", text)
    assert "Part of the audit of dp-sgd (single) could not have seen a violation" in plain
    assert f"the part that could have seen one ({covered['attack']}) found none" in plain
    assert "The audit of dp-sgd could not have seen a violation" not in plain


def test_unknown_format_or_language_is_refused(audit: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'htm'.*'html'"):
        render(audit, tmp_path, ("htm",))
    with pytest.raises(ConfigError, match="'xx'"):
        render(audit, tmp_path, language="xx")


def test_allowed_region_meets_the_best_guess() -> None:
    """Two closed forms of one region: the best balanced accuracy over the curve is (e^eps + delta) / (1 + e^eps)."""
    fpr = np.linspace(0, 1, 200_001)
    for epsilon, delta in ((0.0, 0.0), (0.5, 1e-3), (3.0, 1e-5), (1.0, 0.2)):
        tpr = allowed_rate(fpr, ClaimPoint(epsilon=epsilon, delta=delta))
        best = float(np.max((tpr + 1 - fpr) / 2))
        assert best == pytest.approx(best_guess(epsilon, delta), abs=1e-5)
        assert best_guess(epsilon, delta) == pytest.approx((np.exp(epsilon) + delta) / (1 + np.exp(epsilon)))


def test_thinning_keeps_ends_and_little_else() -> None:
    fpr = np.sort(np.random.default_rng(3).uniform(0, 1, 50_000))
    kept = thin(fpr, 1e-4)
    assert len(kept) <= MOST_POINTS + 2
    assert kept[-1] == len(fpr) - 1
    assert fpr[kept[0]] <= 1e-4
    assert np.all(np.diff(kept) > 0)
    assert thin(np.array([0.0, 0.0, 0.5, 1.0]), 1e-3).tolist() == [1, 2, 3]


def _luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
def test_contrast(mode: str) -> None:
    """WCAG AA: 4.5 for text, 3 for the marks of charts."""
    css = (TEMPLATES / "report.css").read_text()
    blocks = [
        dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)
    ]
    assert len(blocks) == 3
    colours = {**blocks[0], **blocks[["light", "dark", "print"].index(mode)]}

    def contrast(front: str, back: str) -> float:
        high, low = sorted((_luminance(colours[f"--{name}"]) for name in (front, back)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    text = [(front, back) for front in ("ink", "muted", "link") for back in ("page", "card")]
    text += [(name, f"{name}-soft") for name in ("bad", "warn", "good", "calm")]
    text += [("ink", back) for back in ("bad-soft", "warn-soft", "good-soft", "calm-soft", "code")]
    assert not [(pair, contrast(*pair)) for pair in text if contrast(*pair) < 4.5]
    marks = [("claimed", "card"), ("certified", "card"), ("ceiling", "card")]
    assert not [(pair, contrast(*pair)) for pair in marks if contrast(*pair) < 3]


def test_tied_scores_are_explained(builder: Any, tmp_path: Path) -> None:
    audit = without_curves(builder.sample(plain=True))
    rate = audit["findings"][0]["metrics"]["tpr_at_fpr"]["0.01"]
    rate.update({"fpr": 0.01, "above": 1.0, "tie_fraction": 0.25, "attainable": {"value": 0.0125, "fpr": 0.0025}})
    assert "a plain threshold attains 0.0125 at FPR 0.0025" in html(audit, tmp_path)
