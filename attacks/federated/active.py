"""Active record membership: a server that sends a crafted model and reads one client's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import IncompatibleError
from ...audit.games import Measure, Outcome, Stage
from ...audit.metrics.auc import auc_interval
from ...audit.metrics.roc import SplitScores
from ...audit.seeds import Seeds
from ...audit.types import Access, FloatArray, Needs, Rows
from ..parameters import require_choice, require_integer, require_number
from .hosts import UpdateHost, flat_weights, slices, update_host

if TYPE_CHECKING:
    from torch import nn

METHODS = ("trap", "ascent")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveMembership:
    """`trials` clients of `rows` records; a fair coin decides whether the target record is one of them.

    `method` "trap" turns the first neuron of the first linear layer into a detector of the target record, which public
    records do not set off: its weights change if and only if the record is there (in the manner of Nguyen et al. 2023,
    arXiv 2302.12685). "ascent" first raises the record's loss by a step of `strength` along its gradient, and looks how
    far the client brings it down again (Nasr, Shokri, Houmansadr 2019, arXiv 1812.00910, active); it needs no ReLU.
    """

    name: ClassVar[str] = "active-membership"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "attribute"

    trials: int = 200
    rows: int = 32
    method: Literal["trap", "ascent"] = "trap"
    strength: float = 1.0

    def __post_init__(self) -> None:
        require_integer(self.name, "trials", self.trials, least=10)
        require_integer(self.name, "rows", self.rows, least=1)
        require_choice(self.name, "method", self.method, METHODS)
        require_number(self.name, "strength", self.strength, low=0.0)

    @property
    def needs(self) -> Needs:
        """A server's view of single updates."""
        return Needs(access=Access.TRANSCRIPT)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """As in `Game`. Raises `IncompatibleError` for a trap in a model that starts with no linear layer."""
        host, module = update_host(stage, self.name), stage.target().model
        if len(stage.private) <= self.rows:
            raise IncompatibleError(
                f"attack {self.name!r}: clients of {self.rows} records need more records than {len(stage.private)}"
            )
        inside = seeds.at("coins").generator().random(self.trials) < 0.5
        scores = np.array(
            [self._trial(stage, host, module, bool(i), seeds.at("trial", n)) for n, i in enumerate(inside)]
        )
        measured = auc_interval(SplitScores.of(scores, inside), stage.confidence)
        return Outcome(
            measures={
                "active_auc": Measure(
                    measured.value,
                    measured.low,
                    measured.high,
                    n=self.trials,
                    baseline=Measure(0.5, name="a coin flip"),
                )
            },
            threat={
                "attacker": "a malicious server that sends crafted weights and sees the client's update as it arrives",
                "knows": "the target record, public records, the model",
            },
            informative=True,
        )

    def _trial(self, stage: Stage, host: UpdateHost, module: Any, inside: bool, seeds: Seeds) -> float:
        """The score of one client, higher for more likely inside."""
        drawn = seeds.at("client").generator().choice(len(stage.private), self.rows + 1, replace=False)
        target = stage.private.take(drawn[:1])
        # The client has as many records either way.
        client = stage.private.take(drawn[:-1] if inside else drawn[1:])
        weights = flat_weights(module)
        if self.method == "trap":
            crafted, place = trapped(module, weights, target.features, stage.population.features)
            sent = host.client_update(module, client, crafted, seeds=seeds, device=stage.device)
            return float(np.linalg.norm(sent[place]))
        gradient = record_gradient(module, weights, target, stage.device)
        length = float(np.linalg.norm(gradient)) or 1.0
        crafted = weights + self.strength * gradient / length
        pull = record_gradient(module, crafted, target, stage.device)
        sent = host.client_update(module, client, crafted, seeds=seeds, device=stage.device)
        return float(-sent @ pull)


def trapped(
    module: nn.Module, weights: FloatArray, target: NDArray[Any], public: NDArray[Any]
) -> tuple[FloatArray, NDArray[np.int64]]:
    """`weights` (dimension,) with a detector of `target` (1, ...) in the first neuron, and where its weights lie.

    The neuron's direction separates the target from `public` records as linear discriminant analysis would, its bias
    puts the threshold halfway between the target and the highest public record.
    """
    from torch import nn

    layers = [(name, m) for name, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if len(layers) < 2 or not isinstance(layers[0][1], nn.Linear) or layers[0][1].bias is None:
        raise IncompatibleError(
            "attack 'active-membership': a trap needs a model that starts with a linear layer and a hidden one; use "
            "method = 'ascent'"
        )
    places, first, after = slices(module), layers[0][0], layers[1][0]
    x, others = target.reshape(-1).astype(np.float64), public.reshape(len(public), -1).astype(np.float64)
    centre = others.mean(axis=0)
    spread = np.cov(others, rowvar=False) + 1e-3 * np.eye(len(x))
    direction = np.linalg.solve(spread, x - centre)
    direction /= max(float(direction @ (x - centre)), 1e-12)
    highest = float(np.max((others - centre) @ direction))
    threshold = (1 + min(highest, 0.999)) / 2
    crafted = np.array(weights)
    width = places[f"{first}.weight"][1][1]
    start, offset = places[f"{first}.weight"][0].start, places[f"{first}.bias"][0].start
    # A steep detector: a record beyond the threshold moves the logits, and so its gradient is far from zero.
    steepness = 4.0 / (1 - threshold)
    crafted[start : start + width] = steepness * direction
    crafted[offset] = -steepness * (direction @ centre + threshold)
    outgoing, shape = places[f"{after}.weight"]
    rows = crafted[outgoing].reshape(shape)
    rows[:, 0] = np.linspace(-1, 1, shape[0])
    crafted[outgoing] = rows.ravel()
    return crafted, np.append(np.arange(start, start + width), offset)


def record_gradient(module: Any, weights: FloatArray, rows: Rows, device: str) -> NDArray[np.float64]:
    """The gradient (dimension,) of the mean loss on `rows` at the flat `weights`."""
    import torch
    from torch.nn.functional import cross_entropy

    named, start = {}, 0
    for name, p in module.named_parameters():
        if p.requires_grad:
            part = torch.from_numpy(np.array(weights[start : start + p.numel()])).to(p.device, p.dtype)
            named[name] = part.view_as(p).requires_grad_()
            start += p.numel()
    dtype = next(iter(named.values())).dtype
    features = torch.from_numpy(np.ascontiguousarray(rows.features)).to(device)
    features = features.to(dtype) if features.is_floating_point() else features
    logits = torch.func.functional_call(module, named, (features,))
    loss = cross_entropy(logits, torch.from_numpy(np.ascontiguousarray(rows.labels)).to(device))
    gradients = torch.autograd.grad(loss, list(named.values()))
    return np.concatenate([g.cpu().numpy().ravel() for g in gradients]).astype(np.float64)
