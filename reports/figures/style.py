"""One look for all charts, and the way from a matplotlib figure to an SVG that can stand inside a page.

Colours are drawn as placeholders and replaced by CSS variables, ids get a prefix of their own (several charts share a
page), and matplotlib's metadata, comments and fonts are dropped. Text stays text: it can be read out and searched.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from typing import Any

INK = "#010a01"
MUTED = "#010a02"
LINE = "#010a03"
CARD = "#010a04"
CLAIMED = "#010a05"
CERTIFIED = "#010a06"
CEILING = "#010a07"
FORBIDDEN = "#010a08"
COLOURS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    CARD: "var(--card)",
    CLAIMED: "var(--claimed)",
    CERTIFIED: "var(--certified)",
    CEILING: "var(--ceiling)",
    FORBIDDEN: "var(--forbidden)",
}
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "leakgauge",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "path.simplify": False,
}


def new_figure(width: float, height: float, *, margins: dict[str, float] | None = None) -> Any:
    """An empty matplotlib figure of this size in inches; call inside `chart_settings()`.

    With `margins` (`left`, `right`, `bottom`, `top`, as fractions) nothing is measured before it is drawn, which takes
    half as long: for charts of which a page has many.
    """
    from matplotlib.figure import Figure

    if margins is None:
        return Figure(figsize=(width, height), layout="constrained")
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(**margins)
    return figure


def chart_settings() -> Any:
    """A context in which matplotlib knows only our settings, not the reader's matplotlibrc."""
    import matplotlib

    settings: dict[Any, Any] = {k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"}
    settings.update(SETTINGS)
    return matplotlib.rc_context(settings)


def to_svg(figure: Any, prefix: str, alt: str) -> str:
    """The figure as an `<svg role="img">` labelled `alt`; `prefix` must differ between the charts of a page."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Glyphs that matplotlib's font lacks are drawn by the browser: text stays text.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _light(svg)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    for placeholder, colour in COLOURS.items():
        svg = svg.replace(placeholder, colour)
    view_box = re.search(r'viewBox="[^"]*"', svg)
    opening = f'<svg class="chart" role="img" aria-label="{html.escape(alt)}" {view_box.group() if view_box else ""} '
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    svg = re.sub(r"<svg[^>]*>", lambda _: opening + namespaces, svg, count=1)
    return svg.strip()


def _light(svg: str) -> str:
    """The same drawing in a third of the bytes: without unused ids, font lists, line breaks and needless decimals."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda match: match.group() if match.group(1) in used else "", svg)
    # The page's own font applies (templates/report.css).
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    # A hundredth of a point is finer than any screen or printer. Only tags: text such as 0.001 stays.
    svg = re.sub(r"<[^>]*>", lambda match: re.sub(r"(\d\.\d\d)\d+", r"\1", match.group()), svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    return re.sub(r"> <", "><", svg)
