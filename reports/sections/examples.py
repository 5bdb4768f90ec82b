"""Examples of what an attack got back: their scores always, their content only under `--reveal`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..blocks import Block, Card, Cell, Details, Heading, Note, Picture, Pictures, Table
from ..context import Context
from ..figures.png import data_uri
from ..model import Example, Finding, ImageExample
from ..numbers import number

LONGEST_SHOWN = 2000


def examples(context: Context, findings: list[Finding]) -> list[Block]:
    """A table of scores while hidden; grids of images and tables of strings and records when revealed."""
    texts = context.texts
    found = [(finding, example) for finding in findings for example in finding.examples]
    if not found:
        return []
    blocks: list[Block] = [Heading(texts("examples.title"))]
    if not context.reveal:
        return [*blocks, Note(texts("examples.hidden", count=str(len(found)))), _scores(context, found)]
    blocks.append(Note(texts("examples.revealed"), "warning"))
    for finding in findings:
        images = [e for e in finding.examples if isinstance(e, ImageExample)]
        others = [e for e in finding.examples if not isinstance(e, ImageExample)]
        blocks += [_grid(context, finding, images)] if images else []
        blocks += [_contents(context, finding, others)] if others else []
    return blocks


def _name(context: Context, finding: Finding) -> str:
    return f"{context.trainer_name(finding.trainer)} · {finding.attack or finding.rule}"


def _score(example: Example) -> str:
    if example.score is None:
        return "–"
    return f"{example.score_name} {number(example.score)}" if example.score_name else number(example.score)


def _scores(context: Context, found: list[tuple[Finding, Example]]) -> Block:
    texts = context.texts
    rows: list[tuple[Cell, ...]] = [
        (_name(context, finding), example.label or "–", texts(f"examples.kind_{example.kind}"), _score(example))
        for finding, example in found
    ]
    table = Table(texts("examples.caption"), texts.many("examples.columns"), tuple(rows), numeric=(3,))
    return table if len(rows) <= 12 else Details(texts("examples.caption"), (table,))


def _grid(context: Context, finding: Finding, images: list[ImageExample]) -> Pictures:
    texts = context.texts
    cards = []
    for example in images:
        sides = (("original", example.original), ("reconstruction", example.reconstruction))
        pictures = tuple(
            Picture(
                data_uri(image), texts(f"examples.{side}_of", label=example.label or "–"), len(image[0]), len(image)
            )
            for side, image in sides
            if image is not None
        )
        caption = " · ".join(part for part in (example.label, _score(example)) if part)
        cards.append(Card(pictures, caption))
    return Pictures(texts("examples.grid", name=_name(context, finding)), tuple(cards))


def _contents(context: Context, finding: Finding, others: Sequence[Example]) -> Table:
    texts = context.texts
    rows: list[tuple[Cell, ...]] = [
        (example.label or "–", _written(example.original), _written(example.reconstruction), _score(example))
        for example in others
    ]
    caption = texts("examples.contents", name=_name(context, finding))
    return Table(caption, texts.many("examples.content_columns"), tuple(rows), numeric=(3,))


def _written(content: Any) -> str:
    if content is None:
        return "–"
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"
