"""A baseline: what several seeds of one audit showed, as a small JSON file to be committed (`leakgauge/baseline/1`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..config import describe
from ..errors import ConfigError, StaleArtifactError
from .figures import PROPORTIONS, Observation, observation

VERSION: Literal["leakgauge/baseline/1"] = "leakgauge/baseline/1"
LEAST_SEEDS = 5
COLUMNS = ("trials", "successes", "value", "error", "pairs")
"""Of the figures of one statistic, the lists with an entry a seed."""


class Part(BaseModel):
    """A JSON object with exactly the keys named."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Figures(Part):
    """One statistic over the seeds; null where a seed lacks it.

    Proportions have `successes` and `trials`; `auc` has `value`, its standard `error` on the logit scale, `pairs` =
    min(members, nonmembers) and `trials`, the number of records; a game's measure has `value`, `error`, `trials` and
    `better`, the direction that protects people.
    """

    trials: list[int | None]
    successes: list[int | None] | None = None
    value: list[float | None] | None = None
    error: list[float | None] | None = None
    pairs: list[int | None] | None = None
    better: Literal["lower", "higher"] | None = None

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        given = {name for name in ("successes", "value", "error", "pairs", "better") if getattr(self, name) is not None}
        if given not in ({"successes"}, {"value", "error", "pairs"}, {"value", "error", "better"}):
            raise ValueError("give trials and either successes, or value, error and pairs, or value, error and better")
        present = [part for n in COLUMNS if (part := getattr(self, n)) is not None]
        absent = [[value is None for value in part] for part in present]
        if any(row != absent[0] for row in absent):
            raise ValueError("the lists differ in length or in where they are null")
        return self

    def observations(self) -> list[Observation]:
        """The seeds that have the statistic."""
        columns = {n: part for n in COLUMNS if (part := getattr(self, n)) is not None}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        fixed = {"better": self.better} if self.better else {}
        return [observation({**row, **fixed}) for row in rows if row["trials"] is not None]


class BaselineFinding(Part):
    """One rule, trainer and attack: verdicts by seed, all statistics, and the one that decides (null: verdicts only).

    `design` holds what must be the same for figures to be comparable.
    """

    rule: str
    trainer: str | None = None
    attack: str | None = None
    statistic: str | None = None
    verdicts: list[str]
    design: dict[str, int] = {}
    figures: dict[str, Figures] = {}

    @model_validator(mode="after")
    def _decided_by_what_is_there(self) -> Self:
        if self.statistic is not None and self.statistic not in self.figures:
            raise ValueError(f"statistic {self.statistic!r} is not among the figures {sorted(self.figures)}")
        for name, figures in self.figures.items():
            if (name in PROPORTIONS) != (figures.successes is not None):
                raise ValueError(f"figures {name!r} are of the wrong kind")
            if len(figures.trials) != len(self.verdicts):
                raise ValueError(f"figures {name!r} are for {len(figures.trials)} of {len(self.verdicts)} seeds")
        return self


class Baseline(Part):
    """The whole file. `claims` are the weakest of all seeds; `trainers` are specifications, to explain differences."""

    # `schema` is the key users hold on to; the attribute cannot have that name in pydantic.
    version: Literal["leakgauge/baseline/1"] = Field(alias="schema", default=VERSION)
    name: str
    created: str | None = None
    commit: str | None = None
    leakgauge: str
    seeds: list[int | str] = Field(min_length=LEAST_SEEDS)
    design: dict[str, Any] = {}
    trainers: dict[str, dict[str, Any]] = {}
    claims: list[dict[str, Any]] = []
    findings: list[BaselineFinding]

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"the seeds {self.seeds} are not all different")
        wrong = [f.rule for f in self.findings if len(f.verdicts) != len(self.seeds)]
        if wrong:
            raise ValueError(f"finding {wrong[0]!r} does not have a verdict for each of {len(self.seeds)} seeds")
        return self


def read_baseline(path: Path) -> Baseline:
    """The baseline at `path`. `ConfigError` for a missing file or something that is no baseline, `StaleArtifactError`
    for a damaged one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(
            f"no baseline at {path}; `leakgauge baseline AUDIT.toml --out {path}` makes one from {LEAST_SEEDS} seeds"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StaleArtifactError(f"{path} is corrupt: {error}; restore it or make it again") from None
    version = document.get("schema") if isinstance(document, dict) else None
    if isinstance(version, str) and version.startswith("leakgauge/audit/"):
        raise ConfigError(
            f"{path} is one run and no baseline: one run does not show how much training varies. Make a baseline of "
            f"{LEAST_SEEDS} seeds or more: leakgauge baseline AUDIT.toml, or leakgauge compare BASELINE.json RUN... "
            "--update"
        )
    if version != VERSION:
        raise ConfigError(f"{path}: schema: unknown version {version!r}; this LeakGauge reads {VERSION!r}")
    try:
        return Baseline.model_validate(document)
    except ValidationError as error:
        raise StaleArtifactError(f"{path}: {describe(error, Baseline)}") from None


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write atomically, one line a statistic, the same bytes for the same baseline."""
    from ..store import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _lines(baseline.model_dump(mode="json", by_alias=True, exclude_none=True)) + "\n")


def _lines(value: Any, indent: str = "") -> str:
    """JSON with lists of plain values on one line, so that a diff of a baseline can be read."""
    deeper = indent + " "
    if isinstance(value, dict) and value:
        if all(not isinstance(v, dict) for v in value.values()) and len(json.dumps(value)) < 100:
            return json.dumps(value, ensure_ascii=False)
        rows = [f"{deeper}{json.dumps(k, ensure_ascii=False)}: {_lines(v, deeper)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        return "[\n" + ",\n".join(deeper + _lines(v, deeper) for v in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
