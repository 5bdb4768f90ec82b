"""The report as a tree of plain blocks. Sections build it once; HTML and Markdown only draw it, so that order and
numbers agree by construction. All text is plain: nothing in it is markup, whatever a record or trainer is called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """A plain link; `url` is https."""

    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Badge:
    """A verdict as a word with its colour and symbol."""

    verdict: str
    text: str


@dataclass(frozen=True, slots=True)
class Mono:
    """A digest, name or setting, set in a fixed-width face."""

    text: str


Cell = str | Link | Badge | Mono


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph. `lead` sets it larger."""

    text: str
    lead: bool = False


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading inside a section; `level` 4 stands below one of level 3."""

    text: str
    level: int = 3


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence that must not be missed. `kind` is `warning` or `info`."""

    text: str
    kind: str = "info"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; the first column names the row. `numeric` lists the columns to align right."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values, a description list."""

    items: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """An inline SVG with its text alternative; Markdown shows the alternative only."""

    svg: str
    alt: str
    caption: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """Figures side by side where the page is wide enough."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A small image as a data URI with its text alternative; it is drawn with visible pixels."""

    uri: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Card:
    """Pictures that belong together, above one line of text."""

    pictures: tuple[Picture, ...]
    caption: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """A grid of cards; Markdown shows their captions only."""

    caption: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Verbatim text: a command, a configuration."""

    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Details:
    """Blocks behind a summary line; printed in full."""

    summary: str
    blocks: tuple[Block, ...]


Block = Paragraph | Heading | Bullets | Note | Table | Facts | Figure | Gallery | Pictures | Code | Details


@dataclass(frozen=True, slots=True)
class Section:
    """One numbered part of the report."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One of the few numbers at the top: its name, value and what it is."""

    name: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a renderer needs, in the reader's language."""

    language: str
    title: str
    subtitle: str
    verdict: Badge
    sentence: str
    figures: tuple[KeyFigure, ...]
    stamps: tuple[Note, ...]
    sections: tuple[Section, ...]
    labels: dict[str, str]
    footer: str
