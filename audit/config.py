"""The audit file (DESIGN 7): TOML or YAML to typed sections. Unknown keys are refused with the nearest valid name."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import ConfigError
from .registry import nearest
from .types import Adjacency, Unit, Verdict


class Section(BaseModel):
    """A table of the audit file: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PlugSection(BaseModel):
    """A table whose further keys are the constructor arguments of the plug-in that `name` names."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    id: str | None = None

    @property
    def identity(self) -> str:
        """The name used in findings: `id`, or the plug-in's own name."""
        return self.id or self.name

    @property
    def parameters(self) -> dict[str, Any]:
        """The keys that go to the plug-in's constructor."""
        return dict(self.model_extra or {})


class AuditSection(Section):
    """`[audit]`: name, seed, threat model and the two confidences."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    access: list[str] = ["logits"]
    confidence: float = Field(default=0.95, gt=0, lt=1)
    violation_confidence: float = Field(default=0.999, gt=0, lt=1)
    delta: float | None = Field(default=None, ge=0, lt=1)

    @model_validator(mode="after")
    def _ordered(self) -> AuditSection:
        if self.violation_confidence < self.confidence:
            raise ValueError(
                f"violation_confidence {self.violation_confidence} must be at least confidence {self.confidence}"
            )
        return self


class DataSection(BaseModel):
    """`[data]`: fields of `trainers.data.DataSpec`, checked when the data is loaded."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def parameters(self) -> dict[str, Any]:
        """The keys that go to `DataSpec`, with `$NAME` in `path` and `labels` replaced from the environment."""
        given = dict(self.model_extra or {})
        return {k: expanded(v, f"data.{k}") if k in {"path", "labels"} else v for k, v in given.items()}


class TrainerSection(PlugSection):
    """`[trainer]`, or one of several `[[trainer]]`."""


class AttackSection(PlugSection):
    """One `[[attack]]`: the plug-in's own parameters, how its scores are judged, and the trainers it runs on (all)."""

    guesses: int | None = Field(default=None, ge=1)
    alpha_share: float | None = Field(default=None, gt=0, le=1)
    bound: str | None = None
    threshold: float | None = None
    trainers: list[str] | None = None


class TargetSection(Section):
    """`[target]`: an existing model. Exactly one of `path`, `huggingface`, `estimator`, `predict`, `url`.

    `rate_limit` (calls a second), `batch_size` (records a call) and `cache` (answers kept in the run folder; the
    default for a service) are for `predict` and `url`; `timeout` (seconds), `retries`, `headers` for `url` alone.
    """

    path: str | None = None
    builder: str | None = None
    model: str | None = None
    huggingface: str | None = None
    revision: str | None = None
    estimator: str | None = None
    predict: str | None = None
    url: str | None = None
    labels_only: bool = False
    tokenize: bool = False
    rate_limit: float | None = Field(default=None, gt=0)
    batch_size: int | None = Field(default=None, ge=1)
    cache: bool | None = None
    timeout: float | None = Field(default=None, gt=0)
    retries: int | None = Field(default=None, ge=0)
    headers: dict[str, str] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> TargetSection:
        given = [k for k in ("path", "huggingface", "estimator", "predict", "url") if getattr(self, k)]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of path, huggingface, estimator, predict, url; got {', '.join(given) or 'none'}"
            )
        if self.path and not (self.builder or self.model):
            raise ValueError("path (safetensors weights) needs builder = 'module:attr', which builds the module")
        return self

    @model_validator(mode="after")
    def _keys_of_the_source(self) -> TargetSection:
        sources = {
            ("labels_only",): ("estimator", "predict", "url"),
            ("tokenize",): ("huggingface",),
            ("rate_limit", "batch_size", "cache"): ("predict", "url"),
            ("timeout", "retries", "headers"): ("url",),
        }
        for keys, those in sources.items():
            for key in keys:
                if getattr(self, key) not in (None, False) and not any(getattr(self, source) for source in those):
                    raise ValueError(f"{key} belongs to a target given by {' or '.join(those)}")
        for name, value in (self.headers or {}).items():
            if "$" not in value:
                raise ValueError(
                    f"header {name!r} is written out in the file, and files get shared; put its value into the "
                    "environment and write '$NAME'"
                )
        return self


class ClaimSection(Section):
    """`[claim]`: the promise made for an existing model."""

    epsilon: float = Field(ge=0)
    delta: float = Field(ge=0, lt=1)
    unit: Unit = Unit.RECORD
    adjacency: Adjacency = Adjacency.ADD_REMOVE
    mechanism: str = "unknown"
    noise_multiplier: float | None = Field(default=None, gt=0)
    sample_rate: float | None = Field(default=None, gt=0, le=1)
    steps: int | None = Field(default=None, ge=1)


class DesignSection(Section):
    """`[design]`: who could be a member. With `[target]`, `membership` says who was."""

    audit_records: int | None = Field(default=None, ge=20)
    membership: str | None = None
    sampling: Literal["coin", "runs", "unknown"] = "coin"


class TprPolicy(Section):
    """The highest true-positive rate allowed at one false-positive rate."""

    fpr: float = Field(gt=0, lt=1)
    max: float = Field(ge=0, le=1)


class PolicySection(Section):
    """`[policy]`: what is over policy, and which verdicts fail the run (exit codes 1 and 3)."""

    tpr_at_fpr: TprPolicy | None = None
    max_epsilon: float | None = Field(default=None, ge=0)
    fail_on: list[Verdict] = [Verdict.VIOLATED, Verdict.EXCEEDS_POLICY]


class AuditConfig(Section):
    """A whole audit file."""

    audit: AuditSection
    data: DataSection
    trainer: list[TrainerSection] = []
    attack: list[AttackSection] = Field(min_length=1)
    target: TargetSection | None = None
    claim: ClaimSection | None = None
    design: DesignSection = DesignSection()
    policy: PolicySection = PolicySection()

    @field_validator("trainer", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> AuditConfig:
        if bool(self.trainer) == bool(self.target):
            raise ValueError("give either [trainer] (train and audit) or [target] (audit an existing model)")
        if self.claim and not self.target:
            raise ValueError("[claim] belongs to [target]; a trainer computes its own claim")
        if self.target and not self.design.membership:
            raise ValueError("[target] needs [design] membership = 'file' with columns record, inside")
        for kind, sections in (("trainer", self.trainer), ("attack", self.attack)):
            names = [s.identity for s in sections]
            doubled = sorted({n for n in names if names.count(n) > 1})
            if doubled:
                raise ValueError(f"two {kind}s are called {doubled[0]!r}; give each its own id")
        total = sum(a.alpha_share or 0 for a in self.attack)
        if total > 1 + 1e-12:
            raise ValueError(f"the alpha_share of all attacks sum to {total:g}, which is more than 1")
        return self

    def digest(self) -> str:
        """SHA-256 of the whole configuration in canonical form."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def expanded(value: Any, key: str) -> Any:
    """`$NAME` and `${NAME}` in a path (or list of paths) replaced from the environment; an unset name is an error.

    Done when data is read and not when the file is, so that the digest of an audit file holds on every machine.
    """
    if isinstance(value, list | tuple):
        return [expanded(v, key) for v in value]
    if not isinstance(value, str):
        return value
    unset = [n for n in re.findall(r"\$\{?(\w+)\}?", value) if n not in os.environ]
    if unset:
        raise ConfigError(f"{key}: the environment variable {unset[0]} is not set (got {value!r})")
    return os.path.expandvars(value)


def load_config(path: Path, overrides: Sequence[str] = ()) -> AuditConfig:
    """Read an audit file and apply `KEY=VALUE` overrides (`attack.0.shadows=8`). Every mistake is a `ConfigError`."""
    document = _read(path)
    for override in overrides:
        assign(document, override)
    return parse_config(document, where=str(path))


def parse_config(document: dict[str, Any], *, where: str = "audit") -> AuditConfig:
    """A parsed document to a checked configuration."""
    try:
        return AuditConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error, AuditConfig)}") from None


def describe(error: ValidationError, root: type[BaseModel]) -> str:
    """The first mistake of a validation, in one line: key, value seen, remedy."""
    # A misspelt table also shows as a missing one; the misspelling is what helps.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        fields = _fields_at(root, first["loc"][:-1])
        return f"unknown key {key!r}{nearest(str(first['loc'][-1]), fields)}"
    if first["type"] == "missing":
        return f"missing key {key!r}"
    message = first["msg"].removeprefix("Value error, ")
    seen = first["input"]
    shown = f" (got {seen!r})" if isinstance(seen, str | int | float | bool) else ""
    return f"{key}: {message}{shown}" if key else message


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the valid keys at a place in the document."""
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        arguments = [annotation, *getattr(annotation, "__args__", ())]
        inner = [a for a in arguments if isinstance(a, type) and issubclass(a, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; `leakgauge list suites` names the suites that come with LeakGauge")
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix in {".yaml", ".yml"}:
            import yaml

            document = yaml.safe_load(text)
        else:
            document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
        raise
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected tables such as [audit], got {type(document).__name__}")
    return document


def assign(document: dict[str, Any], override: str) -> None:
    """Set one dotted key; list items are addressed by position or by their id or name."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override!r}: expected KEY=VALUE, such as audit.seed=7 or attack.0.shadows=8")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.split(".")
    place: Any = document
    for part in parents:
        place = _step(place, part, override)
    if isinstance(place, list):
        raise ConfigError(f"--set {override!r}: {key!r} names a list; give a position, such as {key}.0")
    place[last] = value


def _step(place: Any, part: str, override: str) -> Any:
    if isinstance(place, dict):
        inner = place.setdefault(part, {})
        if isinstance(inner, dict | list):
            return inner
    if isinstance(place, list):
        for position, item in enumerate(place):
            if part in {str(position), item.get("id"), item.get("name")}:
                return item
        raise ConfigError(f"--set {override!r}: no item {part!r} in a list of {len(place)}")
    raise ConfigError(f"--set {override!r}: {part!r} is a value, not a table")
