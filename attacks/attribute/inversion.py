"""Model inversion (Fredrikson, Jha, Ristenpart 2015, CCS): what does the model think a class looks like?"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.games import Example, Measure, Outcome, Stage
from ...audit.seeds import Seeds
from ...audit.types import Access, Needs, Rows, Unit
from ..parameters import require_choice, require_integer, require_number
from .inference import learned
from .similarity import Similarity

if TYPE_CHECKING:
    from torch import Tensor, nn

LEAST_MEMBERS = 2
SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInversion:
    """Climb the model's confidence in a class from what public data look like, and compare with the private class.

    Maximises log p(class | x) - `keep` / 2 |(x - start) / spread|^2 - `smooth` (mean variation between neighbouring
    pixels, pictures only) by `steps` of Adam, within the range of public values; `spread` is that of public records,
    the second term their normal prior. `knows`: `class`, the attacker has public records of the class and starts from
    their mean; `others`, it has only records of other classes (as when a class is one person's face). The start itself
    is the baseline: what the public data alone would tell.

    A picture like the class's mean is no record of anybody. `nearest_record` therefore compares the reconstruction with
    single records, and `training_effect` says how much closer it is to the nearest member than to the nearest of as
    many records of the class outside.
    """

    name: ClassVar[str] = "model-inversion"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "inversion"
    unit: ClassVar[Unit] = Unit.RECORD

    knows: Literal["class", "others"] = "class"
    steps: int = 200
    learning_rate: float = 0.05
    keep: float = 0.01
    smooth: float = 0.0

    def __post_init__(self) -> None:
        require_choice(self.name, "knows", self.knows, ("class", "others"))
        require_integer(self.name, "steps", self.steps, least=1)
        for key in ("learning_rate", "keep", "smooth"):
            require_number(self.name, key, getattr(self, key), low=0.0)

    @property
    def needs(self) -> Needs:
        """Weights: the gradient of the confidence with respect to the features."""
        return Needs(access=Access.WEIGHTS, population=True)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """One reconstruction a class. `IncompatibleError` for what is no torch module, for tokens, or where no class
        has two records inside, two outside, and the public records that the attacker is to know."""
        import torch

        trained = stage.target()
        if not isinstance(trained.model, torch.nn.Module):
            raise IncompatibleError(
                f"attack {self.name!r} needs a torch module, the trainer made a {type(trained.model).__name__}"
            )
        if not np.issubdtype(stage.private.features.dtype, np.floating):
            raise IncompatibleError(f"attack {self.name!r} needs numbers, got {stage.private.features.dtype} (tokens)")
        classes = self._playable(stage)
        start = np.stack([self._start(stage.population, c) for c in classes])
        found, confidence = self._climbed(trained.model, start, classes, stage)
        compared = _Comparison(start, found, classes, stage, Similarity.of(stage.population.features), seeds)
        return Outcome(
            {**compared.measures(), "confidence": Measure(float(confidence.mean()), n=len(classes), better=None)},
            self._threat(),
            examples=compared.examples(),
            informative=learned(trained.target, stage.population),
        )

    def _playable(self, stage: Stage) -> NDArray[np.int64]:
        labels, inside = stage.private.labels, stage.inside
        fine = []
        for c in range(stage.private.classes):
            public = (stage.population.labels == c) == (self.knows == "class")
            sizes = (int((labels[inside] == c).sum()), int((labels[~inside] == c).sum()), int(public.sum()))
            if min(sizes) >= LEAST_MEMBERS:
                fine.append(c)
        if not fine:
            raise IncompatibleError(
                f"attack {self.name!r}: no class has {LEAST_MEMBERS} records inside, {LEAST_MEMBERS} outside, and "
                "public ones: use more audit records"
            )
        return np.array(fine)

    def _start(self, population: Rows, of_class: int) -> NDArray[np.float32]:
        known = (population.labels == of_class) == (self.knows == "class")
        return np.asarray(population.features[known].mean(axis=0), dtype=np.float32)

    def _climbed(
        self, module: nn.Module, start: NDArray[np.float32], classes: NDArray[np.int64], stage: Stage
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The reconstructions (classes, ...) and the model's confidence in them (classes,)."""
        import torch

        public = torch.from_numpy(np.array(stage.population.features, dtype=np.float32)).to(stage.device)
        low, high, spread = public.amin(0), public.amax(0), public.std(0)
        # A column constant in public stays where it is.
        scale = torch.where(spread > 0, spread, torch.full_like(spread, 1e-6))
        begin = torch.from_numpy(start).to(stage.device)
        wanted = torch.from_numpy(classes).to(stage.device)
        offset = torch.zeros_like(begin, requires_grad=True)
        optimizer = torch.optim.Adam([offset], lr=self.learning_rate)
        modes = [(part, part.training) for part in module.modules()]
        module.eval()
        try:
            for step in range(self.steps):
                # Steps in units of the public spread, so that one learning rate suits all columns.
                points = begin + offset * scale
                height = _log_confidence(module, points, wanted) - self.keep / 2 * offset.flatten(1).square().sum(1)
                loss = (self.smooth * _variation(points) - height).sum()
                (offset.grad,) = torch.autograd.grad(loss, [offset])
                optimizer.step()
                with torch.no_grad():
                    offset.copy_(((begin + offset * scale).clamp(low, high) - begin) / scale)
                stage.progress(step + 1, self.steps)
            with torch.no_grad():
                points = begin + offset * scale
                confidence = _log_confidence(module, points, wanted).exp()
        finally:
            for part, mode in modes:
                part.training = mode
        return points.cpu().numpy(), confidence.double().cpu().numpy()

    def _threat(self) -> dict[str, str]:
        public = "of the class" if self.knows == "class" else "of other classes only"
        return {
            "holds": "the model's weights",
            "knows": f"the names of the classes, and public records {public}",
            "goal": "see what the private records of each class look like",
        }


def _log_confidence(module: nn.Module, points: Tensor, wanted: Tensor) -> Tensor:
    import torch

    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), points.dtype)
    answer: Any = module(points.to(dtype))
    logits: Tensor = getattr(answer, "logits", answer)
    return torch.log_softmax(logits.float(), dim=1).gather(1, wanted[:, None])[:, 0]


def _variation(points: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels (records,); 0 for tables."""
    if points.dim() < 3:
        return points.new_zeros(len(points))
    down = (points[..., 1:, :] - points[..., :-1, :]).abs().flatten(1).mean(1)
    right = (points[..., 1:] - points[..., :-1]).abs().flatten(1).mean(1)
    return down + right


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Starts and reconstructions (classes, ...) against the private records of their classes."""

    start: NDArray[np.float32]
    found: NDArray[np.float32]
    classes: NDArray[np.int64]
    stage: Stage
    similarity: Similarity
    seeds: Seeds

    def measures(self) -> dict[str, Measure]:
        """Figures averaged over classes, each with Student's interval over them."""
        mean = [self.similarity(points, self._private_means()) for points in (self.start, self.found)]
        nearest = [self._nearest(points) for points in (self.start, self.found)]
        effect = [inside - outside for inside, outside in nearest]
        unit = "SSIM" if self.similarity.picture else "correlation"
        level, name = self.stage.confidence, "what public data alone look like"
        return {
            "similarity_to_class": averaged(mean[1], level, unit, averaged(mean[0], level, unit, name=name)),
            "gain_over_public_data": averaged(mean[1] - mean[0], level, unit),
            "nearest_record": averaged(nearest[1][0], level, unit, averaged(nearest[0][0], level, unit, name=name)),
            "training_effect": averaged(effect[1], level, unit, averaged(effect[0], level, unit, name=name)),
        }

    def _private_means(self) -> NDArray[np.float32]:
        labels, inside = self.stage.private.labels, self.stage.inside
        features = self.stage.private.features
        return np.stack([features[inside & (labels == c)].mean(axis=0) for c in self.classes]).astype(np.float32)

    def _nearest(self, points: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Similarity (classes,) to the likest member of the class, and to the likest of equally many outside it."""
        labels, inside, features = self.stage.private.labels, self.stage.inside, self.stage.private.features
        out = np.empty((2, len(self.classes)))
        for k, c in enumerate(self.classes):
            sides = [np.flatnonzero((labels == c) & side) for side in (inside, ~inside)]
            count = min(map(len, sides))
            # The likest of more records is liker by chance alone.
            generator = self.seeds.at("class", int(c)).generator()
            for side, rows in enumerate(sides):
                chosen = generator.choice(rows, count, replace=False)
                out[side, k] = self.similarity(points[k][None], features[chosen]).max()
        return out[0], out[1]

    def examples(self) -> tuple[Example, ...]:
        """The private mean of a class beside its reconstruction; pictures in grey or colour only."""
        shape = self.start.shape[1:]
        if not self.similarity.picture or (len(shape) == 3 and shape[0] not in (1, 3)):
            return ()
        public = self.stage.population.features
        low, span = float(public.min()), self.similarity.span
        means = self._private_means()
        scores = self.similarity(self.found, means)
        out = []
        for k, c in enumerate(self.classes[:SHOWN]):
            mean, found = (
                ((x - low) / span).reshape((1, *shape) if len(shape) == 2 else shape) for x in (means[k], self.found[k])
            )
            out.append(Example("image", f"class {c}: mean of its members", mean, found, float(scores[k]), "SSIM"))
        return tuple(out)


def averaged(
    values: NDArray[np.float64],
    confidence: float,
    unit: str,
    baseline: Measure | None = None,
    *,
    name: str | None = None,
) -> Measure:
    """The mean of `values` (classes,) with Student's interval; no interval for a single class."""
    from scipy.special import stdtrit

    n, mean = len(values), float(values.mean())
    if n < 2:
        return Measure(mean, n=n, baseline=baseline, unit=unit, name=name)
    reach = float(stdtrit(n - 1, (1 + confidence) / 2)) * float(values.std(ddof=1)) / sqrt(n)
    return Measure(mean, mean - reach, mean + reach, n, baseline, unit, name=name)
