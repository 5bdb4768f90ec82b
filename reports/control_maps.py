"""Control maps: what a regulation or standard asks, by finding rule and report section, one TOML file each.

Lawyers edit `controls/*.toml` without Python. A row says which of our findings are *evidence for* a point; nothing here
says that anybody complies with anything. `checked = false` marks rows without a quotation compared with a text.
"""

from __future__ import annotations

import fnmatch
import functools
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..audit.errors import ConfigError

FOLDER = Path(__file__).with_name("controls")

ReportPart = Literal[
    "system",
    "claim",
    "threat",
    "design",
    "results",
    "utility",
    "controls",
    "limits",
    "reproduce",
    "meaning",
    "provenance",
    "attestation",
]


class ControlRow(BaseModel):
    """One point asked for. `rules` are patterns of finding rules (`membership.*`), `sections` parts of the report.

    `quote` is the source's own wording; `checked` says that it was compared with the copy that `compared_with` names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: str
    asks: str
    rules: tuple[str, ...] = ()
    sections: tuple[ReportPart, ...] = ()
    quote: str | None = None
    compared_with: str | None = None
    checked: bool = False

    @model_validator(mode="after")
    def _checked_against_something(self) -> ControlRow:
        if self.checked and not (self.quote and self.compared_with):
            raise ValueError("checked needs a quote and what it was compared_with")
        return self

    def covers(self, rule: str) -> bool:
        """Whether findings of `rule` are evidence for this point."""
        return any(fnmatch.fnmatchcase(rule, pattern) for pattern in self.rules)


class ControlMap(BaseModel):
    """One source: `asks` are our paraphrases, not quotations, unless they stand in quotation marks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    url: str = Field(pattern="^https://")
    rows: tuple[ControlRow, ...] = Field(min_length=1)


@functools.cache
def load_control_maps(folder: Path = FOLDER) -> tuple[ControlMap, ...]:
    """All maps in `folder`, by file name. Raises `ConfigError` naming the file and the key that is wrong."""
    return tuple(_read(path) for path in sorted(folder.glob("*.toml")))


def _read(path: Path) -> ControlMap:
    try:
        return ControlMap.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
