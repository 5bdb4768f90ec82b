"""Passive record membership from federated rounds: how far what was released moves the way the record pulls."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import PrerequisiteError
from ...audit.seeds import Seeds
from ...audit.types import Access, Evidence, FloatArray, Needs, Rows, Scores, Trained
from ..parameters import require_choice, require_integer

if TYPE_CHECKING:
    from torch import Tensor

Signal = Literal["alignment", "loss"]
SIGNALS = ("alignment", "loss")


@dataclass(frozen=True, slots=True)
class RoundSignals:
    """One number per record from the transcript of a federated trainer, higher for more likely inside.

    `alignment`: by how much what a round released, u, lowers the record's loss to first order, -d/ds loss(theta + s u)
    at s = 0 for u of unit length (Nasr, Shokri, Houmansadr 2019, arXiv 1812.00910, passive). `loss`: minus the
    cross-entropy. Where single updates are seen, u is each client's and the loss is that of its local model; a record
    stands out by what one client does to it beyond the others of the same round. The client is the record's own group
    where the clients are the data's groups, else whichever stands out most. Where they are not seen, the mean over
    rounds of the same for the secure sum or the difference of consecutive global models.
    """

    name: ClassVar[str] = "federated-rounds"
    version: ClassVar[str] = "1"
    access: ClassVar[Access] = Access.TRANSCRIPT

    signal: Signal = "alignment"

    def ask(self, trained: Trained, rows: Rows, *, seeds: Seeds, device: str) -> NDArray[np.float32]:
        """float32 (records, 1). Raises `PrerequisiteError` where the trainer kept no global models."""
        del seeds
        transcript = trained.transcript or {}
        if "models" not in transcript:
            raise PrerequisiteError(
                f"attack 'federated-membership' needs the global models of every round, the transcript has "
                f"{transcript.get('view', 'none')!r}: set view = 'global-models', 'sum' or 'updates' in the trainer"
            )
        probe = _Probe.of(trained, rows, device)
        by_client = "updates" in transcript
        seen = self._by_client(probe, transcript, rows) if by_client else self._by_round(probe, transcript)
        return seen.astype(np.float32)[:, None]

    def _by_round(self, probe: _Probe, transcript: Any) -> FloatArray:
        """(records,): the mean over rounds."""
        models, total = transcript["models"], np.zeros(len(probe.labels))
        for number in range(len(models) - 1):
            if self.signal == "loss":
                total -= probe.losses(models[number + 1])
            else:
                sums = transcript.get("sums")
                move = models[number + 1] - models[number] if sums is None else sums[number]
                total += probe.alignment(models[number], move)
        return total / max(len(models) - 1, 1)

    def _by_client(self, probe: _Probe, transcript: Any, rows: Rows) -> FloatArray:
        """(records,): what the record's client, or the most telling one, does to it beyond the others of the round."""
        clients = transcript["clients"]
        total, seen = np.zeros((len(rows), len(clients))), np.zeros(len(clients))
        rounds, senders = np.asarray(transcript["update_rounds"]), np.asarray(transcript["update_clients"])
        for number in np.unique(rounds).tolist():
            here = np.flatnonzero(rounds == number)
            if len(here) < 2:
                continue  # Nothing to compare with.
            weights = transcript["models"][number]
            signals = np.stack([self._one(probe, weights, transcript["updates"][i]) for i in here], axis=1)
            total[:, senders[here]] += signals - signals.mean(axis=1, keepdims=True)
            seen[senders[here]] += 1
        means = total / np.maximum(seen, 1)
        own = {name: position for position, name in enumerate(clients)}
        if rows.groups is not None and set(rows.groups) <= own.keys():
            return np.asarray(means[np.arange(len(rows)), [own[g] for g in rows.groups]])
        return np.asarray(means[:, seen > 0].max(axis=1, initial=-np.inf) if seen.any() else means[:, 0])

    def _one(self, probe: _Probe, weights: FloatArray, update: FloatArray) -> FloatArray:
        return -probe.losses(weights + update) if self.signal == "loss" else probe.alignment(weights, update)


@dataclass(frozen=True, slots=True)
class _Probe:
    """Losses of fixed records as a function of flat weights."""

    module: Any
    features: Tensor
    labels: Tensor

    @classmethod
    def of(cls, trained: Trained, rows: Rows, device: str) -> _Probe:
        import torch

        module = trained.model.eval()
        kind = torch.int64 if np.issubdtype(rows.features.dtype, np.integer) else next(module.parameters()).dtype
        features = torch.from_numpy(np.ascontiguousarray(rows.features)).to(device, kind)
        return cls(module, features, torch.from_numpy(np.ascontiguousarray(rows.labels)).to(device))

    def losses(self, weights: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """(records,) cross-entropies."""
        import torch

        with torch.no_grad():
            return np.asarray(self._losses(self._named(weights)).cpu().numpy())

    def alignment(
        self, weights: NDArray[np.floating[Any]], move: NDArray[np.floating[Any]]
    ) -> NDArray[np.floating[Any]]:
        """(records,) minus the derivative of the losses along the unit vector of `move`; zeros for a zero move."""
        import torch

        length = float(np.linalg.norm(move))
        if not length:
            return np.zeros(len(self.labels))
        tangent = self._named(np.asarray(move) / length)
        with warnings.catch_warnings():
            # Forward derivatives of some layers are still torch.jit scripts inside torch.
            warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=DeprecationWarning)
            slope = torch.func.jvp(self._losses, (self._named(weights),), (tangent,))[1]
        return np.asarray(-slope.detach().cpu().numpy())

    def _losses(self, named: dict[str, Tensor]) -> Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        logits = torch.func.functional_call(self.module, named, (self.features,))
        return cross_entropy(logits, self.labels, reduction="none")

    def _named(self, flat: NDArray[np.floating[Any]]) -> dict[str, Tensor]:
        import torch

        out, start = {}, 0
        for name, p in self.module.named_parameters():
            if p.requires_grad:
                part = torch.from_numpy(np.array(flat[start : start + p.numel()])).to(p.device, p.dtype)
                out[name] = part.view_as(p)
                start += p.numel()
        return out


@dataclass(frozen=True, slots=True)
class FederatedMembership:
    """Passive record membership from the rounds: `RoundSignals` is the score.

    With `shadows`, a record's own difficulty is taken off: the mean signal in shadow trainings without it.
    """

    name: ClassVar[str] = "federated-membership"
    version: ClassVar[str] = "1"

    signal: Signal = "alignment"
    shadows: int = 0

    def __post_init__(self) -> None:
        require_choice(self.name, "signal", self.signal, SIGNALS)
        require_integer(self.name, "shadows", self.shadows, least=0)

    @property
    def needs(self) -> Needs:
        """The transcript, through one query."""
        return Needs(access=Access.TRANSCRIPT, shadows=self.shadows, queries=(RoundSignals(self.signal),))

    def score(self, evidence: Evidence, *, seeds: Seeds) -> Scores:
        """As in `Attack`; a record that no shadow lacks is calibrated by the mean of those that are."""
        del seeds
        answers = evidence.answers[RoundSignals.name]
        own = np.asarray(answers.target, np.float64)[:, 0]
        if self.shadows:
            own = own - self._difficulty(evidence)
        return Scores(own, evidence.records)

    def _difficulty(self, evidence: Evidence) -> NDArray[np.float64]:
        """(records,) mean signal over the shadows that were trained without the record."""
        total, count = np.zeros(len(evidence.records)), np.zeros(len(evidence.records))
        for shadow, inside in zip(evidence.answers[RoundSignals.name].shadows, evidence.shadow_inside, strict=True):
            total += np.where(inside, 0.0, np.asarray(shadow, np.float64)[:, 0])
            count += ~inside
        fallback = total.sum() / max(count.sum(), 1.0)
        return np.where(count > 0, total / np.maximum(count, 1), fallback)
