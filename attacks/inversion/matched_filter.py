"""The matched filter: which of k candidates was in the step? Reconstruction that works at realistic epsilon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.bounds.counts import RankCounts
from ...audit.errors import ConfigError, IncompatibleError
from ...audit.games import Measure, Outcome, Stage, Trials
from ...audit.metrics.intervals import binomial_interval
from ...audit.reconstruction import orthogonal_success, success_bound, tangent_delta
from ...audit.releases import ReleaseFacts, ReleasesUpdates
from ...audit.seeds import Seeds
from ...audit.types import Access, Needs, Unit
from ..parameters import require_choice, require_integer

CRAFTED = ("orthogonal", "simplex")
WITHOUT_NOISE = 1e-3
"""Delta at which a release without noise is bounded: there is no curve to choose a better one from."""

UNKNOWN_NOTE = (
    "Unknown records in the sum blur it; the bound counts the noise alone, since whoever knows them can subtract them."
)


@dataclass(frozen=True, slots=True)
class Crowd:
    """`updates` (others, parameters) of records that an attacker does not know, `count` of which are in each sum."""

    updates: Any
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedFilter:
    """`trials` independent releases; in each, one of `candidates` records is in the step and the attacker names it.

    The attacker knows the model, the candidates and the rest of the batch, and picks the candidate whose clipped
    update g maximises <g, noisy sum - rest> - |g|^2 / 2: the maximum a posteriori rule under Gaussian noise and a flat
    prior, so no attacker does better (proof and references in docs/inversion.md). `kind`: "real" candidates are the
    audit's records; "random" has features drawn uniformly from the range of the data; "orthogonal" and "simplex" are
    crafted updates of full norm, pairwise orthogonal or as far apart as can be (cosine -1 / (k - 1)), the worst case of
    a client that may choose its update. `labels`: "any", or "distinct" for at most one candidate a class. `batch_rest`
    known records share the step; `unknown_rest` further ones, drawn afresh in every trial, are in the sum too, as under
    secure aggregation, and the attacker subtracts only what records contribute on average. They blur the sum like
    noise, yet nothing bounds what they do against an attacker who knows them: the claim tested stays that of the noise
    alone. `trained_steps`: plain steps on public rows before the release; 0 is a fresh model.

    A hit proves more than a score: the prior is exactly 1 / candidates, so the hits bound epsilon by `rank`.
    """

    name: ClassVar[str] = "matched-filter"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "inversion"
    unit: ClassVar[Unit] = Unit.RECORD

    candidates: int = 10
    trials: int = 1500
    kind: Literal["real", "random", "orthogonal", "simplex"] = "real"
    labels: Literal["any", "distinct"] = "any"
    batch_rest: int = 0
    unknown_rest: int = 0
    trained_steps: int = 0
    delta: float | None = None

    def __post_init__(self) -> None:
        require_integer(self.name, "candidates", self.candidates, least=2)
        require_integer(self.name, "trials", self.trials, least=10)
        require_integer(self.name, "batch_rest", self.batch_rest, least=0)
        require_integer(self.name, "unknown_rest", self.unknown_rest, least=0)
        require_integer(self.name, "trained_steps", self.trained_steps, least=0)
        require_choice(self.name, "kind", self.kind, ("real", "random", *CRAFTED))
        require_choice(self.name, "labels", self.labels, ("any", "distinct"))
        if self.delta is not None and not 0 <= self.delta < 1:
            raise ConfigError(f"attack {self.name!r}: delta must lie in [0, 1), got {self.delta}")

    @property
    def needs(self) -> Needs:
        """The released gradient."""
        return Needs(access=Access.GRADIENTS)

    def planned(self, trainer: Any) -> Trials | None:
        """What the game will count against `trainer`, known before it is played; hits are those of a perfect attack."""
        if not isinstance(trainer, ReleasesUpdates):
            return None
        return self._trials(self.trials, self.facts(trainer))

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """All trials. `IncompatibleError` for a trainer whose single step cannot be observed."""
        trainer = stage.trainer
        if not isinstance(trainer, ReleasesUpdates):
            raise IncompatibleError(f"attack {self.name!r}: trainer {type(trainer).__name__} shows no single step")
        facts = self.facts(trainer)
        pool, labels, rest, others = self._pool(trainer, stage, seeds=seeds)
        draw = candidate_draw(labels, self.candidates, distinct=self.labels == "distinct", crafted=self.kind in CRAFTED)
        crowd = Crowd(others, self.unknown_rest) if self.unknown_rest else None
        named = named_candidates(
            pool, rest, facts.noise, draw, self.trials, seeds=seeds.at("trials"), stage=stage, crowd=crowd
        )
        fresh = seeds.at("redrawn").generator().integers(self.candidates, size=self.trials)
        redrawn = sum(int(answer == secret) for (_, answer), secret in zip(named, fresh, strict=True))
        hits = sum(int(answer == secret) for secret, answer in named)
        return self._outcome(hits, redrawn, facts, stage.confidence)

    def facts(self, trainer: ReleasesUpdates) -> ReleaseFacts:
        """The release's public facts, its claim at the delta that this design tests best."""
        plain = trainer.release_facts(WITHOUT_NOISE)
        if plain.claim is None:
            return plain
        mu = 1 / plain.claim.mechanism["noise_multiplier"]
        delta = tangent_delta(1 / self.candidates, mu) if self.delta is None else self.delta
        return trainer.release_facts(delta)

    def _pool(self, trainer: ReleasesUpdates, stage: Stage, *, seeds: Seeds) -> tuple[Any, NDArray[np.int64], Any, Any]:
        """Updates (pool, parameters) and labels (pool,) of every possible candidate, the sum of the known rest, and the
        updates (others, parameters) among which the unknown rest is drawn: a third of the records, none a candidate."""
        import torch

        module = trainer.fresh_model(stage.private, seeds=seeds.at("model"), device=stage.device)
        if self.trained_steps:
            train_on_public(module, stage, self.trained_steps, seeds=seeds.at("pretrain"))
        generator = seeds.at("pool").generator()
        order = generator.permutation(len(stage.private))
        known, pool = order[: self.batch_rest], order[self.batch_rest :]
        share = len(pool) // 3 if self.unknown_rest else 0
        strangers, pool = pool[:share], pool[share:]
        if self.unknown_rest > len(strangers):
            raise ConfigError(
                f"attack {self.name!r}: unknown_rest {self.unknown_rest} needs {3 * self.unknown_rest} records"
            )
        if len(pool) < self.candidates and self.kind not in CRAFTED:
            raise ConfigError(f"attack {self.name!r}: {self.candidates} candidates of {len(pool)} records")
        features = np.asarray(stage.private.features, dtype=np.float32)
        chosen = features[pool]
        if self.kind == "random":
            chosen = generator.uniform(features.min(), features.max(), chosen.shape).astype(np.float32)
        labels = torch.from_numpy(stage.private.labels).to(stage.device)

        def updates(rows: NDArray[np.float32], index: NDArray[Any]) -> Any:
            tensor = torch.from_numpy(np.ascontiguousarray(rows)).to(stage.device)
            return trainer.updates(module, tensor, labels[torch.from_numpy(index).to(stage.device)])

        rest = updates(features[known], known).sum(dim=0) if self.batch_rest else None
        others = updates(features[strangers], strangers) if self.unknown_rest else None
        if self.kind in CRAFTED:
            norm = trainer.release_facts(WITHOUT_NOISE).clip or 1.0
            width = sum(p.numel() for p in module.parameters() if p.requires_grad)
            crafted = crafted_updates(self.kind, self.candidates, width, norm, seeds=seeds.at("crafted"))
            return crafted.to(stage.device), np.arange(self.candidates), rest, others
        return updates(chosen, pool), stage.private.labels[pool], rest, others

    def _outcome(self, hits: int, redrawn: int, facts: ReleaseFacts, confidence: float) -> Outcome:
        prior = 1 / self.candidates
        guess = Measure(prior, name="guessing")
        found = binomial_interval(hits, self.trials, confidence)
        measures = {"success": Measure(found.value, found.low, found.high, self.trials, baseline=guess)}
        if facts.claim is not None:
            limit = success_bound(prior, facts.claim)
            measures["largest_possible_success"] = Measure(limit, better=None)
            measures["share_of_largest"] = Measure(
                found.value / limit, found.low / limit, found.high / limit, self.trials, better="lower"
            )
            if self.kind in CRAFTED:
                mu = 1 / facts.claim.mechanism["noise_multiplier"]
                # A simplex is orthogonal signals with their common mean taken out, which tells nothing.
                gain = sqrt(self.candidates / (self.candidates - 1)) if self.kind == "simplex" else 1.0
                best = orthogonal_success(self.candidates, mu * gain)
                measures["optimum_for_these_candidates"] = Measure(best, better=None)
        notes = (UNKNOWN_NOTE,) if self.unknown_rest else ()
        trials = replace(self._trials(hits, facts), redrawn=self._counts(redrawn))
        return Outcome(measures, self.threat(facts), trials, notes=notes)

    def _trials(self, hits: int, facts: ReleaseFacts) -> Trials:
        return Trials("rank", self._counts(hits), facts.claim.delta if facts.claim else WITHOUT_NOISE, facts.claim)

    def _counts(self, hits: int) -> RankCounts:
        return RankCounts(runs=self.trials, hits=hits, pool=self.candidates, top=1)

    def threat(self, facts: ReleaseFacts) -> dict[str, str]:
        """What the attacker holds and knows, in words."""
        rest = f"the {self.batch_rest} other records of the batch" if self.batch_rest else "that nobody else is in it"
        if self.unknown_rest:
            rest = f"{self.batch_rest} other records of the batch, but not the {self.unknown_rest} further ones"
        words = {
            "holds": facts.released,
            "knows": f"the model, {self.candidates} candidates ({self.kind}, {self.labels} labels), and {rest}",
            "goal": "name the candidate that was in the step",
            "server": "honest but curious",
        }
        if self.unknown_rest:
            words["secure sum"] = "only a sum with unknown records is seen; they hide the candidate, with no guarantee"
        return words


def candidate_draw(
    labels: NDArray[np.int64], candidates: int, *, distinct: bool, crafted: bool
) -> Callable[[np.random.Generator], NDArray[np.int64]]:
    """How one trial's candidates are drawn from the pool; their order tells nothing about the secret.

    `ConfigError` when distinct labels are asked for and there are fewer classes than candidates.
    """
    if crafted:
        return lambda _: np.arange(candidates)
    if not distinct:
        return lambda generator: generator.permutation(len(labels))[:candidates]
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if len(classes) < candidates:
        raise ConfigError(f"matched-filter: {candidates} candidates of distinct labels, but {len(classes)} classes")

    def one_a_class(generator: np.random.Generator) -> NDArray[np.int64]:
        chosen = generator.permutation(len(classes))[:candidates]
        return np.array([generator.choice(classes[c]) for c in chosen])

    return one_a_class


def named_candidates(
    pool: Any,
    rest: Any,
    noise: float,
    draw: Callable[[np.random.Generator], NDArray[np.int64]],
    trials: int,
    *,
    seeds: Seeds,
    stage: Stage,
    crowd: Crowd | None = None,
) -> list[tuple[int, int]]:
    """The secret candidate and the one that the matched filter names, a pair for each trial; -1 for a tie."""
    import torch

    strangers = seeds.at("crowd").generator()

    generator, noises = seeds.generator(), seeds.at("noise").torch_generator(stage.device)
    rest = torch.zeros_like(pool[0]) if rest is None else rest
    named: list[tuple[int, int]] = []
    for trial in range(trials):
        signals = pool[torch.from_numpy(draw(generator)).to(pool.device)]
        secret = int(generator.integers(len(signals)))
        blur = torch.randn(pool.shape[1], generator=noises, device=pool.device, dtype=pool.dtype) * noise
        seen = rest + signals[secret] + blur
        if crowd is not None:
            present = torch.from_numpy(strangers.permutation(len(crowd.updates))[: crowd.count]).to(pool.device)
            # The average is public knowledge and no hint; what differs from it hides the candidate.
            seen = seen + crowd.updates[present].sum(dim=0) - crowd.count * crowd.updates.mean(dim=0)
        # The rest is known and subtracted; what remains is one signal in white noise.
        scores = signals @ (seen - rest) - signals.square().sum(dim=1) / 2
        best = scores.max()
        named.append((secret, int(scores.argmax()) if int((scores == best).sum()) == 1 else -1))
        if trial % 100 == 99:
            stage.progress(trial + 1, trials)
    return named


def crafted_updates(kind: str, count: int, width: int, norm: float, *, seeds: Seeds) -> Any:
    """(count, width) rows of L2 norm `norm`, orthogonal or a simplex. `ConfigError` for more rows than coordinates."""
    import torch

    if count > width:
        raise ConfigError(f"matched-filter: {count} crafted updates do not fit into {width} parameters")
    drawn = torch.randn(width, count, generator=seeds.torch_generator())
    rows = torch.linalg.qr(drawn)[0].T.contiguous()
    if kind == "simplex":
        rows = torch.nn.functional.normalize(rows - rows.mean(dim=0), dim=1)
    return rows * norm


def train_on_public(module: Any, stage: Stage, steps: int, *, seeds: Seeds, scale: Any = None) -> None:
    """Plain steps on public rows: a model in the middle of training, which no private record has touched. `scale` turns
    pixels into what the model sees."""
    import torch
    from torch.nn.functional import cross_entropy

    public, generator = stage.population, seeds.generator()
    if not len(public):
        raise ConfigError("matched-filter: trained_steps needs public rows; leave some records out of the audit")
    features = torch.from_numpy(np.asarray(public.features, dtype=np.float32)).to(stage.device)
    features = features if scale is None else scale.to_model(features).float()
    labels = torch.from_numpy(public.labels).to(stage.device)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        batch = torch.from_numpy(generator.integers(len(public), size=min(64, len(public)))).to(stage.device)
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(module(features[batch]), labels[batch]))
        optimizer.step()
