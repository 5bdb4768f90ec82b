"""The whole result document."""

# Pydantic copies defaults; ruff knows that only where BaseModel itself is the base.
# ruff: noqa: RUF012

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from .claims import Claim
from .controls import Controls
from .design import Communication, Design, Utility
from .findings import Finding
from .part import VERDICTS, Part, Verdict
from .provenance import Artifact, Coverage, Provenance
from .system import System


class Audit(Part):
    """The whole result document."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        title="LeakGauge audit.json",
    )

    # `schema` is the key users hold on to; the attribute cannot have that name in pydantic.
    version: Literal["leakgauge/audit/1"] = Field(alias="schema")
    name: str
    status: Literal["ok", "failed"]
    verdict: Verdict
    system: System
    claims: list[Claim] = []
    access: list[Literal["labels", "loss", "logits", "weights", "gradients", "transcript"]] = []
    design: Design
    utility: list[Utility] = []
    communication: list[Communication] = []
    findings: list[Finding] = []
    controls: Controls = Controls()
    coverage: list[Coverage] = []
    limits: list[str] = []
    provenance: Provenance
    timings: dict[str, float] = {}
    artifacts: list[Artifact] = []

    @model_validator(mode="after")
    def _verdict_is_the_worst(self) -> Audit:
        found = [finding.verdict for finding in self.findings]
        worst = min(found, key=VERDICTS.index, default=self.verdict)
        if worst != self.verdict:
            raise ValueError(f"verdict is {self.verdict!r} but the worst finding is {worst!r}")
        return self
