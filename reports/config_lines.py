"""Where in the audit file a finding was asked for, so that alerts stand on the line that somebody would edit."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from .context import Context
from .model import Finding

CONFIGURATIONS = {".toml", ".yaml", ".yml"}
FALLBACK = "audit.toml"
HEADER = re.compile(r"^\s*\[\[?\s*([A-Za-z0-9_.\"-]+)\s*\]?\]\s*(?:#.*)?$")
SETTING = re.compile(r"^\s*(name|id)\s*=\s*(\"[^\"]*\"|'[^']*')")


@dataclass(frozen=True, slots=True)
class Entry:
    """A table such as `[[attack]]`: the line it starts on (from 1), and its `name` and `id` if it has them."""

    table: str
    line: int
    name: str | None = None
    identity: str | None = None

    @property
    def called(self) -> str | None:
        """What findings call it."""
        return self.identity or self.name


def config_location(context: Context) -> str:
    """The audit file as its user named it: from the artefacts, else from the command, else `audit.toml`."""
    for artifact in context.audit.artifacts:
        if artifact.kind == "config":
            return artifact.path
    try:
        words = shlex.split(context.audit.provenance.command or "")
    except ValueError:
        words = []
    return next((word for word in words if PurePosixPath(word).suffix in CONFIGURATIONS), FALLBACK)


def config_line(config: str | None, finding: Finding) -> int:
    """The line (from 1) of the table that names the finding's attack, else its trainer, else 1."""
    entries = [*_toml(config or "")] or [*_yaml(config or "")]
    for table, wanted in (("attack", finding.attack), ("trainer", finding.trainer)):
        for entry in entries:
            if wanted is not None and entry.table == table and entry.called == wanted:
                return entry.line
    return 1


def _toml(config: str) -> Iterator[Entry]:
    """Tables by their headers; a setting counts for the header above it."""
    table, line, values = "", 0, dict[str, str]()
    for number, text in enumerate(config.splitlines(), 1):
        if header := HEADER.match(text):
            if line:
                yield Entry(table, line, values.get("name"), values.get("id"))
            table, line, values = header.group(1).strip('"'), number, {}
        elif setting := SETTING.match(text):
            values.setdefault(setting.group(1), setting.group(2)[1:-1])
    if line:
        yield Entry(table, line, values.get("name"), values.get("id"))


def _yaml(config: str) -> Iterator[Entry]:
    """Items of the top-level keys, with the positions that the parser saw."""
    import yaml

    try:
        root: Any = yaml.compose(config, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        for item in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if isinstance(item, yaml.MappingNode):
                scalars = {k.value: v.value for k, v in item.value if isinstance(v, yaml.ScalarNode)}
                line = item.start_mark.line + 1
                yield Entry(str(key.value), line, scalars.get("name"), scalars.get("id"))
