"""How to repeat the audit, and how to point it at another model."""

from __future__ import annotations

from ..blocks import Block, Code, Details, Heading, Paragraph, Section
from ..context import Context

EXISTING = """[audit]
name = "my-model"
access = ["logits"]

[data]
path = "my-records.parquet"
target = "label"

[target]
path = "my-model.safetensors"
model = "mypackage.models:build"

[claim]
epsilon = 3.0
delta = 1e-5
unit = "record"
adjacency = "add-remove"

[design]
membership = "membership.parquet"
sampling = "coin"

[[attack]]
name = "loss"
guesses = 500
alpha_share = 1.0
"""


def build(context: Context) -> Section:
    """The command, the configuration, and three ways to bring one's own model or scores."""
    texts, provenance = context.texts, context.audit.provenance
    blocks: list[Block] = [Paragraph(texts("reproduce.intro"))]
    if provenance.command:
        blocks.append(Code(provenance.command, "sh"))
    if provenance.config:
        blocks.append(Details(texts("reproduce.config"), (Code(provenance.config.rstrip("\n"), "toml"),)))
    blocks += [
        Heading(texts("reproduce.own_title")),
        Paragraph(texts("reproduce.own_scores")),
        Code("leakgauge score scores.csv --epsilon 3 --delta 1e-5 --design coin --guesses 500", "sh"),
        Paragraph(texts("reproduce.own_model")),
        Code(EXISTING.rstrip("\n"), "toml"),
        Paragraph(texts("reproduce.own_trainer")),
        Code('[trainer]\nname = "mypackage.train:MyTrainer"', "toml"),
    ]
    return Section("reproduce", texts("reproduce.title"), tuple(blocks))
