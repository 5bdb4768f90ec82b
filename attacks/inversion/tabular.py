"""Records of tables from gradients: categories as a softmax over their one-hot columns, many searches pooled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.games import Example, Measure, Outcome, Stage
from ...audit.seeds import Seeds
from ...audit.types import Access, Needs, Unit
from ..parameters import require_choice, require_integer, require_number
from .images import threat_of
from .labels import last_linear, restore_labels
from .matched_filter import train_on_public
from .matching import Matching, matching_loss
from .observation import check_observation, observe
from .table_layout import TableLayout, table_layout
from .threat import ThreatModel
from .victims import FEW, mean_measure, share_measure

NEAR = 0.319
"""A number within so many standard deviations counts as found: the middle quarter of a normal law (Vero et al.)."""
SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TabularInversion:
    """Categories and numbers of the records behind a gradient (TabLeak, Vero et al. 2023, arXiv 2210.01785).

    Categories are searched as a softmax over their one-hot columns, numbers between their public limits, by Adam on the
    cosine distance of gradients; `restarts` searches run in one program, are aligned with the best one and pooled: mean
    probabilities, median numbers. `victims` batches of `batch_size` records; `trained_steps` on public rows come first.
    """

    name: ClassVar[str] = "tabular-inversion"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "inversion"
    unit: ClassVar[Unit] = Unit.RECORD

    victims: int = 20
    batch_size: int = 4
    iterations: int = 400
    learning_rate: float = 0.06
    restarts: int = 8
    labels: Literal["known", "restored"] = "known"
    trained_steps: int = 0

    def __post_init__(self) -> None:
        for key in ("victims", "batch_size", "iterations", "restarts"):
            require_integer(self.name, key, getattr(self, key), least=1)
        require_integer(self.name, "trained_steps", self.trained_steps, least=0)
        require_number(self.name, "learning_rate", self.learning_rate, low=1e-9)
        require_choice(self.name, "labels", self.labels, ("known", "restored"))

    @property
    def needs(self) -> Needs:
        """The released gradient."""
        return Needs(access=Access.GRADIENTS)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """Every victim batch in turn. `IncompatibleError` for what is no table, `ConfigError` without public rows."""
        threat = threat_of(stage, batch_size=self.batch_size, labels=self.labels, trained_steps=self.trained_steps)
        if not len(stage.population):
            raise ConfigError(f"attack {self.name!r} needs public rows: leave some records out of the audit")
        layout = table_layout(stage.population)
        module = stage.trainer.fresh_model(stage.private, seeds=seeds.at("model"), device=stage.device)
        if self.trained_steps:
            train_on_public(module, stage, self.trained_steps, seeds=seeds.at("pretrain"))
        module.eval()
        order = seeds.at("victims").generator().permutation(len(stage.private))
        needed = self.victims * self.batch_size
        if len(order) < needed:
            raise ConfigError(
                f"{self.victims} victim batches of {self.batch_size} need {needed} records of {len(order)}"
            )
        chosen = order[:needed].reshape(self.victims, self.batch_size)
        found = np.zeros((needed, stage.private.features.shape[1]))
        for number, batch in enumerate(chosen):
            here = slice(number * self.batch_size, (number + 1) * self.batch_size)
            found[here] = self._attacked(stage, module, batch, layout, threat, seeds.at("victim", number))
            stage.progress(number + 1, self.victims)
        originals = np.asarray(stage.private.features, np.float64)[chosen.ravel()]
        public = np.asarray(stage.population.features, np.float64)
        return _outcome(originals, found, public, layout, threat, stage.confidence)

    def _attacked(
        self, stage: Stage, module: Any, batch: NDArray[Any], layout: TableLayout, threat: ThreatModel, seeds: Seeds
    ) -> NDArray[np.float64]:
        """The reconstructions of one batch (batch, columns), in the order of the records they stand for."""
        import torch

        features = np.asarray(stage.private.features[batch], np.float32)
        seen = torch.from_numpy(features).to(stage.device)
        labels = torch.from_numpy(stage.private.labels[batch]).to(stage.device)
        observation = observe(stage.trainer, module, seen, labels, threat=threat, seeds=seeds.at("release"))
        check_observation(observation.gradients, module)
        if self.labels == "restored":
            bias = observation[f"{last_linear(module)[0]}.bias"]
            labels = torch.from_numpy(restore_labels(bias, len(batch))).to(stage.device)
        loss = matching_loss(observation, module, labels, Matching(total_variation=0.0))
        candidates, losses = self._search(loss, layout, stage, len(batch), seeds.at("search"))
        pooled = pool_searches(candidates, losses, layout)
        return pooled[_aligned(features.astype(np.float64), pooled)]

    def _search(
        self, loss: Any, layout: TableLayout, stage: Stage, batch: int, seeds: Seeds
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Every search's records (restarts, batch, columns) and matching loss (restarts,)."""
        import torch

        public = torch.from_numpy(np.asarray(stage.population.features, np.float32)).to(stage.device)
        low, high = public.amin(dim=0), public.amax(dim=0)
        shape = (batch, public.shape[1])
        streams = [seeds.at("restart", number).torch_generator() for number in range(self.restarts)]
        raw = torch.stack([torch.randn(shape, generator=g) for g in streams]).to(stage.device).requires_grad_()
        optimizer = torch.optim.Adam([raw], lr=self.learning_rate)
        for step in range(self.iterations):
            optimizer.param_groups[0]["lr"] = self.learning_rate * (1 + math.cos(math.pi * step / self.iterations)) / 2
            optimizer.zero_grad()
            loss(layout.relaxed(raw, low, high))[1].sum().backward(inputs=[raw])
            optimizer.step()
        records = layout.relaxed(raw.detach(), low, high)
        final = torch.nan_to_num(loss(records)[0].detach(), nan=math.inf)
        return records.double().cpu().numpy(), final.double().cpu().numpy()


def pool_searches(
    candidates: NDArray[np.float64], losses: NDArray[np.float64], layout: TableLayout
) -> NDArray[np.float64]:
    """One set of records (batch, columns) from many searches (restarts, batch, columns): the better half, aligned with
    the best, mean over categories and median over numbers."""
    order = np.argsort(losses)[: max(1, len(losses) // 2)]
    best = candidates[order[0]]
    aligned = np.stack([candidates[k][_aligned(best, candidates[k])] for k in order])
    pooled: NDArray[np.float64] = np.median(aligned, axis=0)
    for category in layout.categories:
        pooled[:, category.positions] = aligned[:, :, category.positions].mean(axis=0)
    return pooled


def _aligned(originals: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.int64]:
    from scipy.optimize import linear_sum_assignment

    cost = ((originals[:, None] - found[None]) ** 2).sum(axis=2)
    return np.asarray(linear_sum_assignment(cost)[1], dtype=np.int64)


def _outcome(
    originals: NDArray[np.float64],
    found: NDArray[np.float64],
    public: NDArray[np.float64],
    layout: TableLayout,
    threat: ThreatModel,
    confidence: float,
) -> Outcome:
    """Categories right and errors of numbers, each beside what the public rows alone would have said."""

    def average(values: NDArray[Any], **more: Any) -> Measure:
        return mean_measure(values.reshape(-1, threat.batch_size).mean(axis=1), confidence, **more)

    def share(values: NDArray[Any], **more: Any) -> Measure:
        return share_measure(values.reshape(-1, threat.batch_size).mean(axis=1), confidence, **more)

    guess = np.broadcast_to(_prior(public, layout), originals.shape)
    right = layout.chosen(originals) == layout.chosen(found)
    guessed = layout.chosen(originals) == layout.chosen(guess)
    spread = np.maximum(public[:, layout.numbers].std(axis=0), 1e-6)
    error, prior_error = (np.abs(v - originals)[:, layout.numbers] / spread for v in (found, guess))
    measures: dict[str, Measure] = {}
    if layout.categories:
        measures["categories_right"] = share(right.mean(axis=1), baseline=share(guessed.mean(axis=1), name="mode"))
    if len(layout.numbers):
        base = average(prior_error.mean(axis=1), name="mean")
        measures["number_error"] = average(
            error.mean(axis=1), unit="standard deviations", baseline=base, better="higher"
        )
        near = share((prior_error < NEAR).mean(axis=1), name="mean")
        measures["numbers_near"] = share((error < NEAR).mean(axis=1), baseline=near)
    whole, prior_whole = (r.all(axis=1) & (e < NEAR).all(axis=1) for r, e in ((right, error), (guessed, prior_error)))
    measures["whole_records"] = share(whole, baseline=share(prior_whole, name="mode and mean"))
    for place, category in enumerate(layout.categories):
        base = share(guessed[:, place], name="mode")
        measures[f"{category.name}_right"] = share(right[:, place], baseline=base)
    examples = tuple(
        Example(
            "tabular",
            f"victim {k + 1}",
            layout.shown(originals[k]),
            layout.shown(found[k]),
            float(right[k].mean()) if layout.categories else float((error[k] < NEAR).mean()),
            "categories right" if layout.categories else "numbers near",
        )
        for k in range(min(SHOWN, len(found)))
    )
    batches = len(found) // threat.batch_size
    notes = () if batches >= FEW else (f"only {batches} victim batches: an average over fewer than {FEW} says little",)
    return Outcome(measures, threat.describe(), examples=examples, notes=notes)


def _prior(public: NDArray[np.float64], layout: TableLayout) -> NDArray[np.float64]:
    """The record (columns,) that somebody would guess who has the public rows only: every mode and mean."""
    record: NDArray[np.float64] = public.mean(axis=0)
    for category in layout.categories:
        code = np.zeros(len(category.positions))
        code[public[:, category.positions].mean(axis=0).argmax()] = 1.0
        record[category.positions] = code
    return record
