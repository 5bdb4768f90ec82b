"""What is needed to repeat the audit, and what was tried before."""

# Pydantic copies defaults; ruff knows that only where BaseModel itself is the base.
# ruff: noqa: RUF012

from __future__ import annotations

from .part import Part, Verdict


class Coverage(Part):
    """One sentence on the measured coverage of a bound in use."""

    method: str
    line: str


class Attempt(Part):
    """An earlier audit of the same claim, kept so that repeating until something appears is visible."""

    when: str
    config_digest: str
    seed: int | str | None = None
    verdict: Verdict | None = None


class Provenance(Part):
    """What is needed to repeat the audit."""

    config_digest: str
    config: str | None = None
    seed: int | str | None = None
    command: str | None = None
    started: str | None = None
    finished: str | None = None
    attempts: list[Attempt] = []


class Artifact(Part):
    """A file of the run and its digest."""

    path: str
    sha256: str
    kind: str
