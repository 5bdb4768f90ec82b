"""The vocabulary of LeakGauge as types (DESIGN 1 and 3). The ground floor."""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, IncompatibleError
from .seeds import Seeds

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]


class Unit(enum.StrEnum):
    """What one add or remove changes."""

    RECORD = "record"
    USER = "user"
    CLIENT = "client"


class Adjacency(enum.StrEnum):
    """Which pairs of data sets the claim protects. Bounds and claims of different adjacency are never compared."""

    ADD_REMOVE = "add-remove"
    REPLACE_ONE = "replace-one"
    ZERO_OUT = "zero-out"


class Validity(enum.StrEnum):
    """What the confidence of a bound means. Only `FREQUENTIST` and `ANYTIME` may decide a verdict."""

    FREQUENTIST = "frequentist"
    ANYTIME = "anytime"
    BAYESIAN = "bayesian"
    ESTIMATE = "estimate"


class Verdict(enum.StrEnum):
    """Worst first; a whole audit's verdict is the worst of its findings."""

    VIOLATED = "violated"
    EXCEEDS_POLICY = "exceeds-policy"
    ERROR = "error"
    UNDERPOWERED = "underpowered"
    NO_CLAIM = "no-claim"
    CONSISTENT = "consistent"

    @classmethod
    def worst(cls, verdicts: Sequence[Verdict]) -> Verdict:
        """The worst of `verdicts`; an empty audit showed nothing, which is `underpowered`."""
        order = list(cls)
        return min(verdicts, key=order.index, default=cls.UNDERPOWERED)


class Access(enum.Flag):
    """What the attacker sees. Combine with `|`; `covers` knows that weights include logits, logits include loss."""

    LABELS = enum.auto()
    LOSS = enum.auto()
    LOGITS = enum.auto()
    WEIGHTS = enum.auto()
    GRADIENTS = enum.auto()
    TRANSCRIPT = enum.auto()

    @classmethod
    def parse(cls, names: Sequence[str]) -> Access:
        """`["logits", "weights"]` to flags; an unknown name is a `ConfigError`."""
        access = cls(0)
        for name in names:
            if name.upper() not in cls.__members__:
                known = ", ".join(m.lower() for m in cls.__members__)
                raise ConfigError(f"access: unknown value {name!r}; choose from {known}")
            access |= cls[name.upper()]
        return access

    def covers(self, needed: Access) -> bool:
        """Whether somebody with this access can see everything in `needed`."""
        seen = self
        if Access.TRANSCRIPT in seen:
            seen |= Access.WEIGHTS
        if Access.WEIGHTS in seen:
            seen |= Access.LOGITS | Access.GRADIENTS
        if Access.LOGITS in seen:
            seen |= Access.LOSS | Access.LABELS
        return needed in seen

    def names(self) -> list[str]:
        """Lower-case names, as written in configurations."""
        return [m.name.lower() for m in type(self) if m in self and m.name]


@dataclass(frozen=True, slots=True)
class Mechanism:
    """What adds the noise: a name and its public parameters, enough to recompute the claim.

    `dp-sgd` has `noise_multiplier`, `sample_rate`, `steps`; `gaussian` has `noise_multiplier`; `unknown` has none.
    """

    name: str = "unknown"
    parameters: tuple[tuple[str, float], ...] = ()

    def __getitem__(self, key: str) -> float:
        return dict(self.parameters)[key]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One point of a privacy curve: the mechanism is (epsilon, delta)-DP."""

    delta: float
    epsilon: float


@dataclass(frozen=True, slots=True)
class Claim:
    """A privacy promise with its fine print. `curve` holds further valid pairs, smallest delta first."""

    epsilon: float
    delta: float
    unit: Unit = Unit.RECORD
    adjacency: Adjacency = Adjacency.ADD_REMOVE
    mechanism: Mechanism = Mechanism()
    accountant: str = "declared"
    curve: tuple[CurvePoint, ...] = ()
    assumes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.epsilon >= 0 or math.isinf(self.epsilon):
            raise ConfigError(f"claim epsilon must be a finite number >= 0, got {self.epsilon}")
        if not 0 <= self.delta < 1:
            raise ConfigError(f"claim delta must lie in [0, 1), got {self.delta}")

    def epsilon_at(self, delta: float) -> float:
        """The epsilon this claim promises at `delta`: the tightest known pair whose own delta is at most `delta`.

        Raises `IncompatibleError` when `delta` is below every delta known: an (epsilon, delta) pair alone promises
        nothing there, so the claim's curve is needed.
        """
        # Relative slack: 1e-6 read from a file and 1e-6 computed as 10**-6 differ in the last bit.
        known = [
            p.epsilon for p in (*self.curve, CurvePoint(self.delta, self.epsilon)) if p.delta <= delta * (1 + 1e-9)
        ]
        if not known:
            raise IncompatibleError(
                f"the claim (epsilon {self.epsilon:g}, delta {self.delta:g}) promises nothing at delta {delta:g}: "
                "test it at its own delta, or give the mechanism so that its curve is known"
            )
        return min(known)


@dataclass(frozen=True, slots=True)
class Selection:
    """How the threshold, the number of guesses or the attack was chosen before the truth was read.

    `fixed`: before any data was seen. `holdout`: on a disjoint part. `bonferroni`: best of `tried` candidates
    registered beforehand, each tested at alpha / tried. `anytime`: the bound holds at every stopping point.
    """

    rule: Literal["fixed", "holdout", "bonferroni", "anytime"] = "fixed"
    tried: int = 1

    def __post_init__(self) -> None:
        if self.tried < 1 or (self.rule != "bonferroni" and self.tried != 1):
            raise IncompatibleError(
                f"selection {self.rule!r} over {self.tried} candidates is no valid rule: register the candidates "
                "beforehand and use bonferroni, or choose on a held-out part"
            )

    def __str__(self) -> str:
        return f"bonferroni({self.tried})" if self.rule == "bonferroni" else self.rule


@dataclass(frozen=True, slots=True)
class Bound:
    """A certified lower bound on epsilon at `delta`, and the `ceiling` that a perfect attack would reach.

    `confidence` is that of the whole family of bounds an audit draws; `alpha` is the error probability this one
    bound was given (after ledger share and selection). `counts` are the integers it was computed from.
    """

    epsilon: float
    delta: float
    confidence: float
    method: str
    null_class: str
    validity: Validity
    selection: Selection
    counts: Mapping[str, float]
    ceiling: float
    alpha: float

    def to_json(self) -> dict[str, Any]:
        """The dictionary of DESIGN 6."""
        out = asdict(self)
        out.update(validity=str(self.validity), selection=str(self.selection), counts=dict(self.counts))
        return out


@dataclass(frozen=True, slots=True)
class Membership:
    """Who is in which model. `inside` is bool (models, records); `records` are stable ids, never positions."""

    inside: BoolArray
    records: tuple[str, ...]
    unit: Unit = Unit.RECORD

    def __post_init__(self) -> None:
        if self.inside.ndim != 2 or self.inside.shape[1] != len(self.records):
            raise IncompatibleError(f"membership has shape {self.inside.shape} for {len(self.records)} records")
        if len(set(self.records)) != len(self.records):
            raise IncompatibleError("membership: record ids are not unique")


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled records. `features` (records, ...) float32, `labels` (records,) int64 in [0, classes), stable ids.

    Text is held as integer token ids in `features` (records, length) int64. `columns` names the columns of encoded
    tables (`age`, `sex=female`); it is empty where they have no names, and no part of the fingerprint.
    """

    features: NDArray[Any]
    labels: NDArray[np.int64]
    records: tuple[str, ...]
    classes: int
    name: str = "rows"
    groups: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.records)
        if len(self.features) != n or len(self.labels) != n:
            raise IncompatibleError(
                f"{self.name}: {len(self.features)} feature rows, {len(self.labels)} labels, {n} record ids"
            )

    def __len__(self) -> int:
        return len(self.records)

    def take(self, index: IntArray | BoolArray) -> Rows:
        """The rows at integer positions `index`, or where a boolean `index` is true."""
        positions = np.flatnonzero(index) if index.dtype == np.bool_ else index
        groups = None if self.groups is None else tuple(self.groups[i] for i in positions)
        return Rows(
            self.features[positions],
            self.labels[positions],
            tuple(self.records[i] for i in positions),
            self.classes,
            self.name,
            groups,
            self.columns,
        )

    def fingerprint(self) -> str:
        """A digest of the content and order of the rows: ids, labels, features, their shapes and types."""
        digest = hashlib.sha256()
        for array in (np.ascontiguousarray(self.features), np.ascontiguousarray(self.labels)):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.tobytes())
        digest.update("\x1f".join(self.records).encode())
        digest.update(str(self.classes).encode())
        return digest.hexdigest()


class Query(Protocol):
    """A question put to every model about every record, beyond its log-probabilities; answers are stored and shared.

    A frozen dataclass in `attacks`: `name`, its fields and `version` (raised when the same fields would give other
    answers) identify the stored answers. `access` is what asking needs. A query with `whole = True` asks about the
    model, not about records: its answer has any shape and is not cut into records.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    access: ClassVar[Access]

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:
        """float32 (records, ...). `trained.target` answers queries; `trained.model` is the framework's own object and
        only for queries whose `access` includes weights. `seeds` are the same for every model."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What an attack must be given: number of shadow models, whether population records, and the access it uses.

    `queries` are asked of every model beside its log-probabilities; `features`: it reads the records themselves.
    """

    access: Access = Access.LOGITS
    shadows: int = 0
    population: bool = False
    queries: tuple[Query, ...] = ()
    features: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """What one query gave: `target` (records, ...), `shadows` (shadows, records, ...), and the same of population."""

    target: FloatArray
    shadows: FloatArray
    population_target: FloatArray
    population_shadows: FloatArray


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an attack may read under the declared access: never the target's membership.

    Natural-log class probabilities, float, of the target (records, classes) and of the shadows
    (shadows, records, classes); `shadow_inside` bool (shadows, records) is the shadows' own membership. Population
    records were in no model: `population_target` (population, classes), `population_shadows`
    (shadows, population, classes). Arrays may be memory-mapped; attacks stream over shadows. `answers` holds what the
    attack's own queries gave, by query name. `features` (records, ...) and `population_features` (population, ...) are
    the records themselves, for attacks that declare to read them.
    """

    labels: NDArray[np.int64]
    records: tuple[str, ...]
    target: FloatArray
    shadows: FloatArray
    shadow_inside: BoolArray
    population_labels: NDArray[np.int64]
    population_target: FloatArray
    population_shadows: FloatArray
    access: Access = Access.LOGITS
    answers: Mapping[str, Answers] = field(default_factory=dict)
    features: NDArray[Any] | None = None
    population_features: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        n, classes = self.target.shape
        expected = {
            "labels": (n,),
            "shadows": (len(self.shadows), n, classes),
            "shadow_inside": (len(self.shadows), n),
            "population_target": (len(self.population_labels), classes),
            "population_shadows": (len(self.shadows), len(self.population_labels), classes),
        }
        for name, shape in expected.items():
            seen = getattr(self, name).shape
            if seen != shape:
                raise IncompatibleError(f"evidence: {name} has shape {seen}, expected {shape}")
        if len(self.records) != n:
            raise IncompatibleError(f"evidence: {len(self.records)} record ids for {n} records")
        for name, labels in (("labels", self.labels), ("population_labels", self.population_labels)):
            if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
                raise ConfigError(f"{name} must lie in [0, {classes}), got {labels.min()}..{labels.max()}")


@dataclass(frozen=True, slots=True)
class Scores:
    """One number per record; higher means more likely inside. NaN is refused."""

    values: NDArray[np.float64]
    records: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.records),):
            raise IncompatibleError(f"scores have shape {self.values.shape} for {len(self.records)} records")
        if np.isnan(self.values).any():
            raise ConfigError(f"scores: {int(np.isnan(self.values).sum())} of {len(self.values)} are NaN")


class Attack(Protocol):
    """Evidence to scores. A frozen dataclass; its constructor signature is its configuration schema."""

    name: ClassVar[str]

    @property
    def needs(self) -> Needs:
        """What the runner must provide."""

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:
        """One score per record of `evidence`, higher for more likely inside."""


class Target(Protocol):
    """A model as the attacker's queries see it, in inference mode."""

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Natural-log class probabilities (records, classes)."""


Progress = Callable[[int, int], None]
"""Called with (training steps done, training steps in all)."""


def silent(done: int, total: int) -> None:
    """The `Progress` that reports nothing."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model, the claim that its training record supports, and what was measured on the way.

    `model` is the framework's own object, `target` the same behind the query interface; `steps` counts the
    optimizer steps that really ran; `metrics` are plain numbers (final training loss, ...).
    """

    model: Any
    target: Target
    claim: Claim | None
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    transcript: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One model to train: which rows of the data it sees (bool (records,)) and its own stream of randomness."""

    inside: BoolArray
    seeds: Seeds


class Trainer(Protocol):
    """Rows to model, claim and transcript. A frozen dataclass whose fields are everything that shapes the weights
    (its digest is the cache key) and whose constructor signature is its configuration schema."""

    name: ClassVar[str]

    def fit(self, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """Train one model on `data.take(rows)`. `checkpoint` is a folder to resume from and to write progress to."""

    def save(self, trained: Trained, folder: Path) -> None:
        """Write the model (safetensors) and `train.json` into the existing, empty `folder`."""

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        """What `save` wrote; `data` gives input shape and classes only."""


@runtime_checkable
class StackedTrainer(Protocol):
    """A trainer that can fit many models of one architecture in one program."""

    def fit_many(
        self,
        data: Rows,
        jobs: Sequence[Job],
        *,
        device: str,
        checkpoint: Path | None = None,
        progress: Progress = silent,
    ) -> list[Trained]:
        """The same models, to rounding, as `fit` on each job."""


@runtime_checkable
class PrivateTrainer(Protocol):
    """A trainer that makes a claim, and has an unprotected twin for the positive control."""

    def unprotected(self) -> Trainer:
        """The twin: same model, data flow and steps, no protection."""

    def planned_claim(self, expected_rows: int) -> Claim:
        """The claim that training will make, from public sizes alone."""
