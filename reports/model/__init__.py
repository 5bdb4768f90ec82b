"""The result document `audit.json` as strict types (DESIGN 8). Its JSON Schema is generated from these classes.

Every key is refused unless it is named here; only `evidence`, `spec`, mechanism parameters, counts and timings
are free. Absent is null; NaN and infinities never appear. To add a key, give it a default here, regenerate the
schema (`python -m leakgauge.reports.schema`) and, if old documents need more than the default, write a step in
`migrate.py`.
"""

from __future__ import annotations

from .audit import Audit
from .claims import Claim, CrossCheck, Mechanism, Point
from .controls import (
    BlindControl,
    BlindFigure,
    Controls,
    NegativeControl,
    NegativeFigure,
    PositiveControl,
    PositiveFigure,
)
from .design import Communication, Design, LedgerEntry, Utility
from .exhibits import Example, ImageExample, Line, Series, Slice, TabularExample, TextExample
from .findings import Bound, Finding, Judged, TestedClaim
from .metrics import Baseline, Interval, Measure, Metrics, OperatingPoint, Rate, Roc
from .part import VERDICTS, VERSION, Part, Verdict
from .provenance import Artifact, Attempt, Coverage, Provenance
from .system import Data, System, TrainerSystem

__all__ = [
    "VERDICTS",
    "VERSION",
    "Artifact",
    "Attempt",
    "Audit",
    "Baseline",
    "BlindControl",
    "BlindFigure",
    "Bound",
    "Claim",
    "Communication",
    "Controls",
    "Coverage",
    "CrossCheck",
    "Data",
    "Design",
    "Example",
    "Finding",
    "ImageExample",
    "Interval",
    "Judged",
    "LedgerEntry",
    "Line",
    "Measure",
    "Mechanism",
    "Metrics",
    "NegativeControl",
    "NegativeFigure",
    "OperatingPoint",
    "Part",
    "Point",
    "PositiveControl",
    "PositiveFigure",
    "Provenance",
    "Rate",
    "Roc",
    "Series",
    "Slice",
    "System",
    "TabularExample",
    "TestedClaim",
    "TextExample",
    "TrainerSystem",
    "Utility",
    "Verdict",
]
