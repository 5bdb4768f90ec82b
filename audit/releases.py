"""What a training step shows of the records in it: the interface between trainers and reconstruction attacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .seeds import Seeds
from .types import Claim, Rows


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """Public facts of one release: `clip` (L2 norm of one unit's contribution, None without clipping), the standard
    deviation `noise` on every coordinate of the sum (0 without), the `claim` of one release at full participation, and
    in words what is released (`single gradient`, `client update after 5 steps`, `mask scores`)."""

    clip: float | None
    noise: float
    claim: Claim | None
    released: str


@runtime_checkable
class ReleasesUpdates(Protocol):
    """A trainer whose single training step can be observed."""

    def release_facts(self, delta: float) -> ReleaseFacts:
        """What one release is, its claim stated at `delta`."""

    def fresh_model(self, data: Rows, *, seeds: Seeds, device: str) -> Any:
        """The model before training: a torch module in training mode."""

    def updates(self, module: Any, features: Any, labels: Any) -> Any:
        """Each unit's own contribution to the released sum, after clipping, before noise: tensor (units, parameters),
        on the device of `features`. `features` (units, ...), `labels` (units,): one record a unit."""


@dataclass(frozen=True, slots=True)
class UploadFacts:
    """Public facts of what one client sends in a round.

    `kind`: "scores", their change; "bits", a mask; "flips", changed bits, -1, 0 or 1. A bit's chance is the `smooth`
    sigmoid of its score or a step at 0, kept in [1/2 - clamp, 1/2 + clamp] where there is a `clamp`; `clip` is the L2
    norm to which all else is clipped. The `optimizer` ("adam" or "sgd") takes `steps` local steps of `learning_rate`.
    `claim` is that of one upload against whoever sees it, None without protection; `released` says it in words.
    """

    kind: str
    smooth: bool
    clamp: float | None
    clip: float | None
    optimizer: str
    learning_rate: float
    steps: int
    claim: Claim | None
    released: str

    @property
    def sampled(self) -> bool:
        """Whether bits are drawn rather than thresholded."""
        return self.kind == "bits" and (self.smooth or self.clamp is not None)


@runtime_checkable
class SendsUploads(Protocol):
    """A federated trainer of masks whose single upload can be observed."""

    def fresh_model(self, data: Rows, *, seeds: Seeds, device: str) -> Any:
        """The global model before the first round."""

    def upload_facts(self, records: int, weights: int, delta: float) -> UploadFacts:
        """What a client with `records` records and a mask of `weights` elements sends, its claim stated at `delta`."""

    def client_scores(self, module: Any, features: Any, labels: Any, *, draws: int, seeds: Seeds) -> Any:
        """The scores from which each client's uploads are made, before any protection: float64 (clients, draws, d)."""

    def client_uploads(self, module: Any, features: Any, labels: Any, *, uploads: int, seeds: Seeds) -> Any:
        """What each of several clients sends, `uploads` times over from the same global scores, clipped and with noise
        of its own: float64 (clients, uploads, d). `features` (clients, records, ...), `labels` (clients, records)."""
