"""Examine the aggregation of any federated framework: `aggregate(updates, weights) -> released update`, a black box.

Two cohorts that differ by one crafted client are aggregated many times; how far the outputs part, against the noise
they are in, is the noise multiplier that the framework really has, and the counts certify a lower bound on epsilon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bounds import ClopperPearson, Gdp
from .design import HOLDOUT, RunTrials
from .effective_noise import EffectiveNoise, effective_noise
from .errors import ConfigError, IncompatibleError
from .scores import best_threshold
from .seeds import Seeds
from .types import Adjacency, Bound, Claim, FloatArray, Unit, Verdict
from .verdict import Circumstances, Judgement, judge

Aggregate = Callable[[Sequence[FloatArray], Sequence[float]], FloatArray]
"""Client updates (dimension,) each, and their weights (numbers of examples), to the released update (dimension,)."""

CONFIDENCE, VIOLATION_CONFIDENCE = 0.95, 0.999
SCENES = ("equal", "heavy", "huge", "loud", "opposed")
_SHARE = 0.5
"""Of alpha, for each of the two bounds on the same counts."""
_PILOT = 60
_FAILED = Judgement(Verdict.ERROR, "step-failed")
_MOST = 32
"""Coordinates looked at for the one with the least noise."""


@dataclass(frozen=True, slots=True)
class ClaimedRound:
    """What a framework says of one aggregation: `clip` per client, `noise_multiplier`, and the `claim` of its
    accountant at client level for one release."""

    clip: float
    noise_multiplier: float
    claim: Claim

    def __post_init__(self) -> None:
        if not self.clip > 0 or not self.noise_multiplier > 0:
            raise ConfigError(
                f"a claimed round needs clip > 0 and noise_multiplier > 0, got {self.clip}, {self.noise_multiplier}"
            )
        if self.claim.unit is not Unit.CLIENT:
            raise IncompatibleError(f"an aggregation protects clients, the claim protects one {self.claim.unit}")


@dataclass(frozen=True, slots=True)
class Cohort:
    """Updates (clients, dimension) and weights (clients,) that are handed to the aggregation."""

    updates: NDArray[np.float64]
    weights: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scene:
    """Two neighbouring cohorts; they differ by the last client of `within`, whose update lies along `direction`."""

    name: str
    without: Cohort
    within: Cohort
    direction: NDArray[np.float64]
    adjacency: Adjacency


def lone_scene(*, clip: float, dimension: int, adjacency: Adjacency = Adjacency.REPLACE_ONE) -> Scene:
    """`alone`: a cohort of one client, whose message is replaced: for noise that each client adds itself."""
    along = np.eye(1, dimension)[0]
    return _scene("alone", np.zeros((0, dimension)), 10 * clip * along, np.full(1, 10.0), along, adjacency)


@dataclass(frozen=True, slots=True)
class SceneAudit:
    """What one scene showed. `bound` decides at the reported confidence, `judged` at the judging one.

    `family` is the bound within Gaussian mechanisms at the judging confidence. `error` is what the aggregation raised,
    or that its output was not finite; all measurements are then None.
    """

    scene: str
    claimed: ClaimedRound
    runs: int
    noise: EffectiveNoise | None = None
    bound: Bound | None = None
    judged: Bound | None = None
    family: Bound | None = None
    judgement: Judgement = _FAILED
    error: str | None = None

    @property
    def verdict(self) -> Verdict:
        """The verdict alone."""
        return self.judgement.verdict

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        noise = self.noise
        return {
            "scene": self.scene,
            "runs": self.runs,
            "claimed_noise_multiplier": self.claimed.noise_multiplier,
            "effective_noise_multiplier": None
            if noise is None
            else {"value": noise.value, "low": noise.low, "high": noise.high},
            "claim": {"epsilon": self.claimed.claim.epsilon, "delta": self.claimed.claim.delta},
            "bound": None if self.bound is None else self.bound.to_json(),
            "judged": None if self.judged is None else self.judged.to_json(),
            "family": None if self.family is None else self.family.to_json(),
            "verdict": str(self.verdict),
            "reason": self.judgement.reason,
            "refutes": self.judgement.refutes,
            "error": self.error,
        }


def standard_scenes(
    *, clip: float, clients: int, dimension: int, coordinate: int = 0, adjacency: Adjacency = Adjacency.ADD_REMOVE
) -> list[Scene]:
    """The crafted clients, each against the same `clients` - 1 others, along one coordinate.

    `equal`: nothing special. `heavy`: a hundred times the others' examples. `huge`: an update a million times the clip.
    `opposed`: all others pull the other way, as far as they may. `loud`: all others are far above the clip. Without
    the client there is one client fewer (add-remove), or it sends next to nothing (zero-out; not zero, which some
    frameworks divide by), or the opposite (replace-one).
    """
    if clients < 3 or dimension < 2 or not 0 <= coordinate < dimension:
        raise ConfigError(
            f"scenes need clients >= 3, dimension >= 2 and a coordinate in it, got {clients}, {dimension}, {coordinate}"
        )
    along = np.eye(1, dimension, coordinate)[0]
    aside = np.eye(1, dimension, (coordinate + 1) % dimension)[0]
    quiet = np.tile(0.5 * clip * aside, (clients - 1, 1))
    opposed = np.tile(-clip * along, (clients - 1, 1))
    equal = np.full(clients, 10.0)
    heavy = np.append(equal[:-1], 1000.0)
    cast = (
        ("equal", quiet, 10 * clip * along, equal),
        ("heavy", quiet, 10 * clip * along, heavy),
        ("huge", quiet, 1e6 * clip * along, equal),
        ("loud", 20 * quiet, 10 * clip * along, equal),
        ("opposed", opposed, 10 * clip * along, equal),
    )
    return [_scene(name, others, update, weights, along, adjacency) for name, others, update, weights in cast]


def examine_aggregation(
    aggregate: Aggregate,
    claimed: ClaimedRound,
    *,
    clients: int,
    dimension: int,
    runs: int,
    seeds: Seeds,
    unprotected: Aggregate | None = None,
    adjacency: Adjacency | None = None,
    names: Sequence[str] = SCENES,
) -> list[SceneAudit]:
    """Play the standard scenes `names` with `runs` aggregations on each side and judge each against the claim.

    The crafted client acts along the coordinate with the least noise in a pilot, so that a layer without noise is
    found. Half of the runs choose a threshold, half are counted. A scene is `violated` where Clopper-Pearson at 0.999
    certifies more than the claim at the claim's delta (refutes the guarantee), or else the Gaussian family's bound does
    (refutes the claimed mechanism); each has half of alpha. Only with `unprotected`, the same without noise, can it be
    `consistent`. `adjacency` (default the claim's) is how the two cohorts differ; see `standard_scenes`.

    `aggregate` draws its noise itself; calls must be independent. With Clopper-Pearson 1,000 counted runs a side can
    refute at most epsilon 4.8.
    """
    if runs < 40:
        raise ConfigError(f"runs must be at least 40 (20 to choose a threshold, 20 to count), got {runs}")
    place = _least_noisy(aggregate, claimed.clip, clients, dimension)
    scenes = standard_scenes(
        clip=claimed.clip,
        clients=clients,
        dimension=dimension,
        coordinate=place,
        adjacency=adjacency or claimed.claim.adjacency,
    )
    unknown = set(names) - {s.name for s in scenes}
    if unknown:
        raise ConfigError(f"scenes: unknown {sorted(unknown)}; choose from {', '.join(s.name for s in scenes)}")
    return [
        examine_scene(aggregate, scene, claimed, runs=runs, seeds=seeds.at(scene.name), unprotected=unprotected)
        for scene in scenes
        if scene.name in names
    ]


def examine_scene(
    aggregate: Aggregate,
    scene: Scene,
    claimed: ClaimedRound,
    *,
    runs: int,
    seeds: Seeds,
    unprotected: Aggregate | None = None,
) -> SceneAudit:
    """One scene; `seeds` decide which runs choose the threshold. What the aggregation raises becomes an `error`."""
    try:
        scores = _play(aggregate, scene, runs)
    except Exception as error:
        return SceneAudit(scene.name, claimed, runs, error=f"{type(error).__name__}: {error}")
    if not np.isfinite(scores).all():
        return SceneAudit(scene.name, claimed, runs, error="the released update is NaN or infinite")
    return judge_scores(
        scores[1],
        scores[0],
        claimed,
        name=scene.name,
        adjacency=scene.adjacency,
        seeds=seeds,
        twin=None if unprotected is None else _play(unprotected, scene, 2 * (runs // 2)),
    )


def judge_scores(
    within: FloatArray,
    without: FloatArray,
    claimed: ClaimedRound,
    *,
    name: str,
    adjacency: Adjacency,
    seeds: Seeds,
    twin: FloatArray | None = None,
) -> SceneAudit:
    """The audit of outputs along one direction, with the client (runs,) and without it (runs,), of independent runs.

    `twin` (2, runs) holds the unprotected twin's, without and with. For games that are played elsewhere, such as
    whole training runs of a framework.
    """
    trials = _trials(within, without, adjacency)
    chooser, counted = trials.holdout(seeds=seeds)
    delta = claimed.claim.delta
    counts = counted.count(best_threshold(chooser, delta, _SHARE * (1 - VIOLATION_CONFIDENCE)))
    bound, judged = (
        ClopperPearson().certify(counts, delta=delta, confidence=c, selection=HOLDOUT, alpha_share=_SHARE)
        for c in (CONFIDENCE, VIOLATION_CONFIDENCE)
    )
    middle = float((chooser.scores[chooser.inside].mean() + chooser.scores[~chooser.inside].mean()) / 2)
    family = Gdp().certify(
        counted.count(middle), delta=delta, confidence=VIOLATION_CONFIDENCE, selection=HOLDOUT, alpha_share=_SHARE
    )
    circumstances = Circumstances(
        adjacency=adjacency,
        unit=Unit.CLIENT,
        twin_epsilon=None if twin is None else _certify_twin(twin, adjacency, delta, seeds),
    )
    judgement = judge(claimed.claim, judged, circumstances)
    if judgement.verdict is not Verdict.VIOLATED:
        other = judge(claimed.claim, family, circumstances)
        judgement = other if other.verdict is Verdict.VIOLATED else judgement
    noise = effective_noise(without, within, confidence=CONFIDENCE)
    return SceneAudit(name, claimed, len(within), noise, bound, judged, family, judgement)


def _scene(
    name: str,
    others: NDArray[np.float64],
    update: NDArray[np.float64],
    weights: NDArray[np.float64],
    along: NDArray[np.float64],
    adjacency: Adjacency,
) -> Scene:
    within = Cohort(np.concatenate([others, update[None]]), weights)
    if adjacency is Adjacency.ADD_REMOVE:
        without = Cohort(others, weights[:-1])
    else:
        stand_in = -update if adjacency is Adjacency.REPLACE_ONE else 1e-9 * update
        without = Cohort(np.concatenate([others, stand_in[None]]), weights)
    return Scene(name, without, within, along, adjacency)


def _play(aggregate: Aggregate, scene: Scene, runs: int) -> NDArray[np.float64]:
    """Outputs along the scene's direction (2, runs): without the client, with it."""
    return np.array([_outputs(aggregate, c, scene.direction, runs) for c in (scene.without, scene.within)])


def _outputs(aggregate: Aggregate, cohort: Cohort, direction: NDArray[np.float64], runs: int) -> list[float]:
    # Copies, since frameworks clip in place.
    return [
        float(np.asarray(aggregate([u.copy() for u in cohort.updates], cohort.weights.tolist())) @ direction)
        for _ in range(runs)
    ]


def _least_noisy(aggregate: Aggregate, clip: float, clients: int, dimension: int) -> int:
    updates, weights = np.zeros((clients, dimension)), [10.0] * clients
    updates[:, 0] = 0.5 * clip
    try:
        pilot = np.array([aggregate([u.copy() for u in updates], weights) for _ in range(_PILOT)])
    except Exception:
        return 0  # The scenes will meet and report the same error.
    looked = np.unique(np.round(np.linspace(0, dimension - 1, min(dimension, _MOST))).astype(int))
    return int(looked[np.argmin(pilot[:, looked].std(axis=0))])


def _trials(within: FloatArray, without: FloatArray, adjacency: Adjacency) -> RunTrials:
    scores = np.concatenate([within, without]).astype(np.float64)
    inside = np.arange(len(scores)) < len(within)
    return RunTrials(scores, inside, Unit.CLIENT, adjacency)


def _certify_twin(twin: FloatArray, adjacency: Adjacency, delta: float, seeds: Seeds) -> float:
    chooser, counted = _trials(twin[1], twin[0], adjacency).holdout(seeds=seeds.at("twin"))
    threshold = best_threshold(chooser, delta, _SHARE * (1 - VIOLATION_CONFIDENCE))
    return ClopperPearson().epsilon_lower(
        counted.count(threshold), delta=delta, alpha=_SHARE * (1 - VIOLATION_CONFIDENCE)
    )
