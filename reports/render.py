"""From `audit.json` to report files. Needs no torch; beside it reads at most `private.json` and `attestation.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..audit.errors import ConfigError
from ..audit.registry import nearest
from .attestation import read_attestation
from .build import build_report
from .context import Context
from .github import annotate, to_summary
from .html import to_html
from .junit import to_junit
from .markdown import to_markdown
from .migrate import migrate
from .model_card import to_model_card
from .private import PRIVATE_NAME, read_salt, restore
from .sarif import to_sarif
from .schema import parse_audit
from .texts import load_texts

FORMATS: dict[str, tuple[str, Callable[[Context], str]]] = {
    "html": ("report.html", lambda context: to_html(build_report(context))),
    "md": ("report.md", lambda context: to_markdown(build_report(context))),
    "junit": ("junit.xml", to_junit),
    "sarif": ("report.sarif", to_sarif),
    "github": ("summary.md", to_summary),
    "model-card": ("model-card.md", to_model_card),
}
"""Format name to file name and the function that writes it; a further format is a line here."""


def render(
    audit: Mapping[str, Any],
    out: Path,
    formats: Sequence[str] = ("html", "md"),
    *,
    reveal: bool = False,
    language: str = "en",
    beside: Path | None = None,
) -> list[Path]:
    """Write the formats asked for into the folder `out` and return their paths, in order.

    `beside` is the run folder that holds `private.json` and `attestation.json`, by default `out`. The same document
    gives the same bytes. `reveal` shows evidence that may be personal and stamps the report.
    Raises `ConfigError` (unknown format, language or schema version) and `StaleArtifactError` (invalid document).
    """
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"report format: unknown value {name!r}{nearest(name, list(FORMATS))}")
    context = open_context(audit, beside or out, reveal=reveal, language=language)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in formats:
        file_name, draw = FORMATS[name]
        path = out / file_name
        path.write_text(draw(context), encoding="utf-8", newline="\n")
        paths.append(path)
    return paths


def open_context(audit: Mapping[str, Any], folder: Path, *, reveal: bool = False, language: str = "en") -> Context:
    """What every format is drawn from: the document, brought up to date and checked, and what `folder` holds beside it.

    Content kept in `private.json` is read only when revealing.
    """
    current = migrate(audit)
    private = folder / PRIVATE_NAME
    document = parse_audit(restore(current, private) if reveal else current)
    attestation = read_attestation(folder / "audit.json")
    return Context(document, load_texts(language), reveal, read_salt(private), attestation)


def render_annotations(audit: Mapping[str, Any], folder: Path, *, language: str = "en") -> list[str]:
    """The workflow commands that show a run's findings on its audit file in a GitHub job."""
    return list(annotate(open_context(audit, folder, language=language)))
