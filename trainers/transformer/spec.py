"""`TransformerSpec`: the table `transformer` of a trainer as one frozen value, checked when it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from ...audit.errors import ConfigError
from ...audit.registry import nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerSpec:
    """A BERT encoder of token rows with mean pooling and a linear head.

    `pretrained`: a folder with config.json and safetensors, `package:name/folder`, or a Hub name with `revision`;
    without it a fresh encoder of `layers`, `width` and `heads` for the token ids of `tokenizer` (named as in
    `data.tokenizer`; `tokenizer_revision`), or for bytes where that is None. `trained_layers` is the number of top
    layers that are trained, with the head; None trains everything. `lora_rank` freezes these layers too and trains
    low-rank additions of that rank to their query and value maps, scaled by `lora_alpha` / `lora_rank` (Hu et al. 2022,
    arXiv 2106.09685; extra `peft`). The head is always trained, and there is no dropout.
    """

    pretrained: str | None = None
    revision: str | None = None
    layers: int = 2
    width: int = 64
    heads: int = 2
    tokenizer: str | None = None
    tokenizer_revision: str | None = None
    trained_layers: int | None = None
    lora_rank: int | None = None
    lora_alpha: float = 16.0

    def __post_init__(self) -> None:
        for key in ("layers", "width", "heads", "lora_rank"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"transformer.{key} must be at least 1, got {value}")
        if self.trained_layers is not None and self.trained_layers < 0:
            raise ConfigError(f"transformer.trained_layers must be at least 0, got {self.trained_layers}")
        if not self.lora_alpha > 0:
            raise ConfigError(f"transformer.lora_alpha must be > 0, got {self.lora_alpha}")
        if self.width % self.heads:
            raise ConfigError(f"transformer.width {self.width} must be a multiple of heads {self.heads}")
        if self.lora_rank is not None and self.trained_layers == 0:
            raise ConfigError("transformer.lora_rank adds to trained layers: raise trained_layers above 0")
        self._check_source()

    def _check_source(self) -> None:
        for key, owner in (("revision", "pretrained"), ("tokenizer_revision", "tokenizer")):
            if getattr(self, key) is not None and getattr(self, owner) is None:
                raise ConfigError(f"transformer.{key} = {getattr(self, key)!r} without {owner}: leave it out")
        if self.pretrained is None:
            return
        given = [k for k in ("layers", "width", "heads", "tokenizer") if getattr(self, k) != _DEFAULTS[k]]
        if given:
            raise ConfigError(
                f"transformer.{given[0]} = {getattr(self, given[0])!r} is for a fresh encoder; {self.pretrained!r} "
                "brings its own: leave it out"
            )


_DEFAULTS = {f.name: f.default for f in fields(TransformerSpec)}

TransformerTable: TypeAlias = TransformerSpec | Mapping[str, Any]
"""What a trainer's `transformer` may be: the value, or a table of its keys."""


def transformer_spec(given: TransformerTable | None) -> TransformerSpec | None:
    """The value of a table. Unknown keys and wrong types are a `ConfigError`."""
    if given is None or isinstance(given, TransformerSpec):
        return given
    for key, value in given.items():
        if key not in _DEFAULTS:
            raise ConfigError(f"unknown key 'transformer.{key}'{nearest(key, list(_DEFAULTS))}")
        kinds, wanted = _KINDS[str(TransformerSpec.__annotations__[key])]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ConfigError(f"transformer.{key}: expected {wanted}, got {value!r}")
    return TransformerSpec(**given)


def assumed_public(table: TransformerTable | None) -> tuple[str, ...]:
    """What a claim assumes of files that training starts from, in words."""
    spec = transformer_spec(table)
    named = [] if spec is None else [name for name in (spec.pretrained, spec.tokenizer) if name is not None]
    return tuple(
        f"what lies in {name!r}, which training starts from, was made without the private rows" for name in named
    )


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "str | None": ((str, type(None)), "text"),
    "int": ((int,), "a whole number"),
    "int | None": ((int, type(None)), "a whole number"),
    "float": ((int, float), "a number"),
}
