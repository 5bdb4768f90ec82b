"""The result document `audit.json` as strict types (DESIGN 8). Its JSON Schema is generated from these classes.

Every key is refused unless it is named here; only `evidence`, `spec`, mechanism parameters, counts and timings
are free. Absent is null; NaN and infinities never appear. To add a key, give it a default here, regenerate the
schema (`python -m leakgauge.reports.schema`) and, if old documents need more than the default, write a step in
`migrate.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

VERSION: Literal["leakgauge/audit/1"] = "leakgauge/audit/1"

Verdict = Literal["violated", "exceeds-policy", "error", "underpowered", "no-claim", "consistent"]
VERDICTS: tuple[Verdict, ...] = ("violated", "exceeds-policy", "error", "underpowered", "no-claim", "consistent")
"""Worst first, as in `audit.types.Verdict` (a test compares the two)."""

Probability = Annotated[float, Field(ge=0, le=1)]
Epsilon = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """A JSON object with exactly the keys named."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Interval(Part):
    """An estimate and its confidence interval at the design's `confidence`. A null value carries its `reason`."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: Count | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} lies above high {self.high:g}")
        return self


class OperatingPoint(Part):
    """What a plain threshold attains where equal scores leave none at the rate asked for."""

    value: Probability
    fpr: Probability


class Rate(Interval):
    """A true-positive rate: the false-positive rate really attained, and the score above which records are called."""

    fpr: Probability | None = None
    above: float | None = None
    attainable: OperatingPoint | None = None
    tie_fraction: Probability | None = None


class Data(Part):
    """The data set audited on, without any of its content."""

    name: str
    fingerprint: str | None = None
    records: Count | None = None
    features: list[int] = []
    classes: Count | None = None
    label_noise: Probability = 0.0
    warnings: list[str] = []


class TrainerSystem(Part):
    """One trainer of the audit: `spec` is everything that shapes its weights, `models` how many were trained."""

    id: str
    name: str
    spec: dict[str, Any] = {}
    models: Count = 0


class System(Part):
    """The software, machine, data and trainers behind the figures."""

    leakgauge: str
    python: str | None = None
    platform: str | None = None
    torch: str | None = None
    opacus: str | None = None
    dp_accounting: str | None = None
    device: str | None = None
    data: Data | None = None
    trainers: list[TrainerSystem] = []


class Mechanism(Part):
    """What adds the noise; parameters are free (`noise_multiplier`, `sample_rate`, `steps`, ...)."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)

    name: str

    def parameters(self) -> dict[str, Any]:
        """All but the name."""
        return dict(self.model_extra or {})


class Point(Part):
    """The mechanism is (epsilon, delta)-DP."""

    delta: Probability
    epsilon: Epsilon


class CrossCheck(Part):
    """Epsilon at the headline delta by other accountants."""

    pld: Epsilon | None = None
    prv: Epsilon | None = None
    rdp: Epsilon | None = None
    gdp: Epsilon | None = None
    reasons: dict[str, str] = {}
    agrees: bool | None = None


class Claim(Part):
    """A privacy promise with its fine print; `tested` is the point of its curve that the audit tests."""

    trainer: str
    epsilon: Epsilon
    delta: Probability
    unit: str
    adjacency: str
    mechanism: Mechanism
    accountant: str
    curve: list[Point] = []
    assumes: list[str] = []
    cross_check: CrossCheck | None = None
    tested: Point | None = None


class LedgerEntry(Part):
    """The share of the error probability that one attack on one trainer was given, fixed beforehand."""

    trainer: str | None = None
    attack: str
    alpha_share: Probability | None = None
    guesses: Count | None = None
    bound: str | None = None
    delta: Probability | None = None


class Design(Part):
    """Who could be a member, how membership was drawn, and at which confidence things are said."""

    sampling: Literal["coin", "runs", "unknown"]
    audit_records: Count | None = None
    canaries: dict[str, Count] = {}
    population_records: Count | None = None
    expected_members: float | None = None
    shadows: Count | None = None
    confidence: Probability
    violation_confidence: Probability | None = None
    delta: Probability | None = None
    ledger: list[LedgerEntry] = []


class Utility(Part):
    """How good the audited model is at its task."""

    trainer: str
    train_accuracy: Interval | None = None
    test_accuracy: Interval | None = None
    train_loss: float | None = None
    test_loss: float | None = None
    majority_share: Probability | None = None
    learned: bool | None = None


class Roc(Part):
    """True-positive against false-positive rate, with the band `low`..`high` of the true-positive rate."""

    fpr: list[Probability]
    tpr: list[Probability]
    low: list[Probability] = []
    high: list[Probability] = []
    true_positives: list[Count] = []
    false_positives: list[Count] = []

    @model_validator(mode="after")
    def _aligned(self) -> Roc:
        optional = (self.low, self.high, self.true_positives, self.false_positives)
        lengths = {len(self.fpr), len(self.tpr)} | {len(part) for part in optional if part}
        if len(lengths) != 1 or bool(self.low) != bool(self.high):
            raise ValueError("the lists differ in length")
        return self


class Metrics(Part):
    """What the scores of one attack show, with intervals; rates derive from `counts`."""

    auc: Interval | None = None
    tpr_at_fpr: dict[str, Rate] = {}
    advantage: Interval | float | None = None
    balanced_accuracy: Interval | float | None = None
    confidence: Probability | None = None
    roc: Roc | None = None
    counts: dict[str, Any] = {}


class TestedClaim(Part):
    """The claim at the delta that was tested."""

    epsilon: Epsilon
    delta: Probability


class Bound(Part):
    """A certified lower bound on epsilon; `ceiling` is the largest that this design could have shown."""

    epsilon: Epsilon
    delta: Probability
    confidence: Probability
    method: str
    null_class: str
    validity: Literal["frequentist", "anytime", "bayesian", "estimate"]
    selection: str
    counts: dict[str, float] = {}
    ceiling: Epsilon | None = None
    alpha: Probability | None = None


class Judged(Part):
    """The same bound at the confidence that verdicts need."""

    confidence: Probability
    epsilon: Epsilon | None = None
    ceiling: Epsilon | None = None
    alpha: Probability | None = None


class Finding(Part):
    """One rule applied to one trainer: a verdict with everything behind it."""

    rule: Annotated[str, Field(min_length=1)]
    verdict: Verdict
    trainer: str | None = None
    attack: str | None = None
    metrics: Metrics | None = None
    claim: TestedClaim | None = None
    bound: Bound | None = None
    judged: Judged | None = None
    reason: str | None = None
    evidence: dict[str, Any] = {}


class PositiveFigure(Part):
    """The same attack on the twin trained without protection: it must find leakage."""

    trainer: str
    attack: str
    epsilon: Epsilon | None = None
    reported_epsilon: Epsilon | None = None
    ceiling: Epsilon | None = None
    claim: Epsilon | None = None
    auc: float | Interval | None = None

    @property
    def at_confidence(self) -> float | None:
        """Epsilon at the reporting confidence where it is stored, to stand beside certified bounds; else as judged."""
        return self.epsilon if self.reported_epsilon is None else self.reported_epsilon


class NegativeFigure(Part):
    """The same attack judged on membership that was never used: it must find nothing."""

    trainer: str
    attack: str
    epsilon: Epsilon | None = None
    alpha: Probability | None = None


class BlindFigure(Part):
    """A classifier that sees the records but no model: it must not tell members from non-members."""

    auc: float | Interval | None = None
    low: Probability | None = None
    high: Probability | None = None
    p_value: Probability | None = None
    least_p_value: Probability | None = None
    alpha: Probability | None = None
    classifier: str | None = None
    separates: bool | None = None
    powered: bool | None = None
    records: Count | None = None


class PositiveControl(Part):
    """The unprotected twin."""

    passed: bool | None = None
    figures: list[PositiveFigure] = []


class NegativeControl(Part):
    """Permuted membership, or canaries that were never inserted."""

    passed: bool | None = None
    figures: list[NegativeFigure] = []


class BlindControl(Part):
    """The blind baseline."""

    passed: bool | None = None
    figures: list[BlindFigure] = []


class Controls(Part):
    """How the audit audits itself. A control that was not run is null."""

    positive: PositiveControl | None = None
    negative: NegativeControl | None = None
    blind: BlindControl | None = None


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
