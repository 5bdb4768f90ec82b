"""From `audit.json` alone to report files. Needs no torch and reads nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..audit.errors import ConfigError
from ..audit.registry import nearest
from .build import build_report
from .context import Context
from .html import to_html
from .junit import to_junit
from .markdown import to_markdown
from .migrate import migrate
from .sarif import to_sarif
from .schema import parse_audit
from .texts import load_texts

FORMATS: dict[str, tuple[str, Callable[[Context], str]]] = {
    "html": ("report.html", lambda context: to_html(build_report(context))),
    "md": ("report.md", lambda context: to_markdown(build_report(context))),
    "junit": ("junit.xml", to_junit),
    "sarif": ("report.sarif", to_sarif),
}
"""Format name to file name and the function that writes it; a further format is a line here."""


def render(
    audit: Mapping[str, Any],
    out: Path,
    formats: Sequence[str] = ("html", "md"),
    *,
    reveal: bool = False,
    language: str = "en",
) -> list[Path]:
    """Write the formats asked for into the folder `out` and return their paths, in order.

    The same document gives the same bytes. `reveal` shows evidence that may be personal and stamps the report.
    Raises `ConfigError` (unknown format, language or schema version) and `StaleArtifactError` (invalid document).
    """
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"report format: unknown value {name!r}{nearest(name, list(FORMATS))}")
    context = Context(parse_audit(migrate(audit)), load_texts(language), reveal)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in formats:
        file_name, draw = FORMATS[name]
        path = out / file_name
        path.write_text(draw(context), encoding="utf-8", newline="\n")
        paths.append(path)
    return paths
