"""The page in a real browser: nothing fetched, nothing logged, nothing cut off, nothing that axe-core calls serious."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from leakgauge.reports.comparison import render_comparison
from leakgauge.reports.render import render

LONG = "x" * 90
CASES = list(itertools.product((360, 1280), (False, True)))


@pytest.fixture(scope="module")
def pages(builder: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The largest sample with every kind of finding: shareable, revealed, and in Chinese; with very long names."""
    audit = builder.sample(more=True)
    audit["system"]["trainers"][0]["id"] = audit["findings"][1]["trainer"] = LONG
    folder = tmp_path_factory.mktemp("pages")
    made = {
        "shared": render(audit, folder / "shared", ("html",)),
        "revealed": render(audit, folder / "revealed", ("html",), reveal=True),
        "chinese": render(audit, folder / "chinese", ("html",), language="zh"),
    }
    other = {**builder.sample(plain=True), "name": LONG}
    made["comparison"] = render_comparison([audit, builder.sample(plain=True), other], folder / "comparison.html")
    return {name: paths[0] for name, paths in made.items()}


@pytest.mark.parametrize("name", ["shared", "revealed", "chinese", "comparison"])
def test_the_page_asks_nobody_and_fits_every_width(browser: Any, pages: dict[str, Path], name: str) -> None:
    for width, dark in CASES:
        visit = browser.open(pages[name], width=width, dark=dark)
        assert visit.complaints == []
        asked = [url for url in visit.requests if not url.startswith("data:image/png")]
        assert asked == [pages[name].as_uri()]
        assert browser.evaluate("document.documentElement.scrollWidth") == width
        # Everything is laid out: the last section is there and has a height.
        assert browser.evaluate("document.querySelector('main').lastElementChild.offsetHeight") > 100
        assert browser.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is dark
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert browser.evaluate(broken) == 0


def test_a_broken_page_is_noticed(browser: Any, tmp_path: Path) -> None:
    """The checks above can fail: a page that scrolls sideways, logs an error and asks the network."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<body style='margin:0'><div style='width:2000px'>x</div><img src='http://127.0.0.1:9/x.png'>"
        "<script>console.error('broken')</script>"
    )
    visit = browser.open(page, width=360)
    assert any("broken" in text for text in visit.complaints)
    assert any(url.startswith("http://") for url in visit.requests)
    assert browser.evaluate("document.documentElement.scrollWidth") > 360


def test_axe_finds_nothing_serious(browser: Any, pages: dict[str, Path], axe: str, tmp_path: Path) -> None:
    def grave(page: Path, width: int, dark: bool) -> list[str]:
        browser.open(page, width=width, dark=dark)
        browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        browser.evaluate(axe + "; 0")
        found = json.loads(
            browser.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations))")
        )
        return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in {"serious", "critical"}]

    bad = tmp_path / "bad.html"
    bad.write_text("<html><body><img src=''><p style='color:#ccc;background:#fff'>pale</p></body></html>")
    assert grave(bad, 360, dark=False)
    # Each width and each colour scheme, on pages that differ.
    for name, case in (("revealed", 0), ("chinese", 1), ("comparison", 2), ("revealed", 3)):
        width, dark = CASES[case]
        assert grave(pages[name], width, dark) == [], (name, width, dark)


def test_the_page_prints(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["shared"], width=1280)
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "block"
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    sheets = max(int(count) for count in re.findall(rb"/Count (\d+)", printed))
    # On paper there is no navigation, everything folded is open, and nothing is scaled to be unreadable.
    assert 10 <= sheets <= 60
    browser.send("Emulation.setEmulatedMedia", media="print", features=[])
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    hidden = "[...document.querySelectorAll('details > :not(summary)')].filter(e => !e.getClientRects().length).length"
    assert browser.evaluate(hidden) == 0
