"""The trainers `federated-supermask` and `dp-federated-supermask`: clients learn one mask and share only that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...audit.accounting import calibrate_noise
from ...audit.canaries import CanarySet, Witnessed
from ...audit.errors import ConfigError, IncompatibleError
from ...audit.releases import UploadFacts
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Claim, Progress, Rows, Trained, silent
from ..federated.canaries import KINDS, check_kind
from ..federated.claims import calibrated, view_claim
from ..federated.local import LocalPlan
from ..federated.partition import PartitionKind, PartitionSpec
from ..federated.protection import Protection, View, check_view
from ..federated.rounds import Schedule
from ..federated.views import load_transcript, save_transcript
from .federation import MaskFederation, fit_canaries, fit_masks
from .response import response_claim
from .sending import client_scores, client_uploads, upload_facts
from .server import MERGES, Merge
from .trainer import MaskFields
from .uploads import Upload, UploadKind

Placement = Literal["central", "local", "distributed"]
NOTE = "sampling bits is not differential privacy: without a clamp a bit may be certain, so this trainer claims nothing"


@dataclass(frozen=True, slots=True)
class MaskClientFields(MaskFields):
    """Clients and server of both federated mask trainers; names as in trainer `federated`.

    Each round every client joins with rate `cohort` / `clients`, trains the global scores for `local_epochs`, and sends
    `upload`: "scores" (their change), "bits" (a sampled mask) or "flips" (at most `flip_budget` changed bits). Bits are
    merged by `merge` "beta" (a posterior, anew every `reset` rounds), "mean" or "majority"; scores and flips are added
    up, divided by the expected cohort, and move the global scores by `server_learning_rate`, in flips the score that
    one unanimous flip is worth.
    """

    clients: int = 10
    partition: PartitionKind = "iid"
    concentration: float = 0.5
    partition_seed: int = 0
    cohort: float = 10
    rounds: int = 15
    client_dropout: float = 0.0
    local_epochs: int = 3
    upload: UploadKind = "bits"
    flip_budget: int | None = None
    server_learning_rate: float = 1.0
    view: View = "final-model"

    def planned_steps(self, expected_rows: int) -> int:
        """Rounds, known before training."""
        del expected_rows
        return self.rounds

    def save(self, trained: Trained, folder: Path) -> None:
        """As in `Trainer`, and the transcript of `view` beside the mask."""
        MaskFields.save(self, trained, folder)
        if trained.transcript is not None:
            save_transcript(trained.transcript, folder)

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        """As in `Trainer`; the transcript is memory-mapped."""
        held = MaskFields.load(self, folder, data, device=device)
        return Trained(held.model, held.target, held.claim, held.steps, held.metrics, load_transcript(folder))

    def upload_facts(self, records: int, weights: int, delta: float) -> UploadFacts:
        """As in `SendsUploads`."""
        return upload_facts(self.federation(), records, weights, delta)

    def client_scores(self, module: Any, features: Any, labels: Any, *, draws: int, seeds: Seeds) -> Any:
        """As in `SendsUploads`."""
        return client_scores(self.federation(), module, features, labels, draws=draws, seeds=seeds)

    def client_uploads(self, module: Any, features: Any, labels: Any, *, uploads: int, seeds: Seeds) -> Any:
        """As in `SendsUploads`."""
        return client_uploads(self.federation(), module, features, labels, uploads=uploads, seeds=seeds)

    def federation(self) -> MaskFederation:
        """This trainer as the loop sees it."""
        raise NotImplementedError

    def _federation(self, **own: Any) -> MaskFederation:
        check_view(self.view)
        if self.partition == "natural":
            raise ConfigError("mask trainers deal records to clients: partition must be 'iid' or 'dirichlet'")
        if self.head == "trained" and self.upload != "scores":
            raise ConfigError(f"head 'trained' cannot travel as {self.upload}: use head 'masked' or upload 'scores'")
        if self.rule == "top-k" and self.upload != "scores":
            raise ConfigError(f"rule 'top-k' ranks scores, which {self.upload} do not carry: use upload 'scores'")
        return MaskFederation(
            masks=self.masks(),
            partition=PartitionSpec(self.partition, self.clients, self.concentration, self.partition_seed),
            local=LocalPlan("fedavg", self.local_epochs, self.batch_size, self.learning_rate),
            schedule=self.schedule(),
            view=self.view,
            **own,
        )

    def schedule(self, canaries: int = 0) -> Schedule:
        """The public numbers; canaries join at the same rate and count in the expected cohort."""
        rate = self.cohort / self.clients
        return Schedule(
            self.rounds,
            rate,
            rate * (self.clients + canaries),
            self.client_dropout,
            server_learning_rate=self.server_learning_rate,
        )


@dataclass(frozen=True, slots=True)
class FederatedSupermask(MaskClientFields):
    """Federated masks without protection (FedPM, Isik et al. 2023, arXiv 2209.15328). It claims nothing: sampling bits
    is not differential privacy. Score and flip uploads host canary clients."""

    name: ClassVar[str] = "federated-supermask"
    version: ClassVar[str] = "1"

    merge: Merge = "beta"
    reset: int = 1
    entropy_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.merge not in MERGES:
            raise ConfigError(f"merge must be one of {', '.join(MERGES)}, got {self.merge!r}")
        if self.reset < 1:
            raise ConfigError(f"reset must be at least 1, got {self.reset}")
        self.federation()

    def federation(self) -> MaskFederation:
        """As in `MaskClientFields`."""
        masks = self._masks(entropy_penalty=self.entropy_penalty)
        upload = Upload(self.upload, self.flip_budget)
        own = self._federation(upload=upload, merge=self.merge, reset=self.reset)
        return own.with_masks(masks)

    def notes(self) -> tuple[str, ...]:
        """What a reader of a report must know: why there is no claim."""
        return (NOTE,) if self.upload == "bits" else ()

    def fit(self, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """As in `Trainer`; training is short and not resumed."""
        del checkpoint
        return fit_masks(self.federation(), data, rows, claim=None, seeds=seeds, device=device)

    def hosts(self) -> tuple[str, ...]:
        """As in `CanaryHost`: canaries send directions, which are no bits."""
        return () if self.upload == "bits" else KINDS

    def planned_canary_claim(self, expected_rows: int, canaries: CanarySet) -> Claim | None:
        """As in `CanaryHost`: none."""
        del expected_rows
        check_kind(canaries)
        check_view(canaries.view)
        return None

    def fit_with_canaries(
        self,
        data: Rows,
        rows: BoolArray,
        canaries: CanarySet,
        *,
        seeds: Seeds,
        device: str,
        checkpoint: Path | None = None,
        progress: Progress = silent,
    ) -> Witnessed:
        """As in `CanaryHost`; the run is short and not resumed."""
        del checkpoint
        schedule = self.schedule(len(canaries.inside))
        return fit_canaries(
            self.federation(), schedule, data, rows, canaries, claim=None, seeds=seeds, device=device, progress=progress
        )


@dataclass(frozen=True, slots=True)
class DpFederatedSupermask(MaskClientFields):
    """Federated masks with a claim for each client; derivations in docs/supermask.md.

    `upload` "scores": score changes clipped to `clip` in L2. "flips": at most `flip_budget` flips, clipped to
    sqrt(flip_budget) in L2, which no honest upload exceeds. Both with Gaussian noise of `noise_multiplier` clips, which
    `noise` "central" lets the server add to the sum and "local" each client to its own; "distributed": discrete shares
    that make up `noise_multiplier` when `least_cohort` clients answer. "bits": every bit's chance is `clamp`ed, which
    is randomised response; its claim follows from `masked_weights`, the public number of bits of one upload. Give
    `noise_multiplier` (or `clamp`), or `epsilon` to calibrate the noise for `view`.
    """

    name: ClassVar[str] = "dp-federated-supermask"
    version: ClassVar[str] = "1"

    noise: Placement = "central"
    epsilon: float | None = None
    delta: float = 1e-5
    noise_multiplier: float | None = None
    clip: float = 1.0
    clamp: float | None = None
    masked_weights: int | None = None
    least_cohort: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1:
            raise ConfigError(f"delta must lie in (0, 1), got {self.delta}")
        if self.upload == "bits":
            self._check_bits()
        else:
            self._check_noise()
        self.federation()

    def federation(self) -> MaskFederation:
        """As in `MaskClientFields`, with the noise calibrated where `epsilon` is given."""
        upload = Upload(self.upload, self.flip_budget, self.clamp)
        return self._federation(upload=upload, protection=self.protection(), merge="mean")

    def protection(self) -> Protection | None:
        """Clip and noise; None for bits, whose noise is their own."""
        if self.upload == "bits":
            return None
        if self.noise_multiplier is not None:
            return self._protection(self.noise_multiplier)
        assert self.epsilon is not None
        how = self.schedule()
        return self._protection(
            _calibrated(
                self._protection(1.0), self.noise, self.view, self.epsilon, self.delta, how.sample_rate, how.rounds
            )
        )

    def fit(self, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """As in `Trainer`; training is short and not resumed."""
        del checkpoint
        return fit_masks(self.federation(), data, rows, claim=self._claim, seeds=seeds, device=device)

    def unprotected(self) -> FederatedSupermask:
        """The same clients, uploads and rounds without clip, noise and clamp."""
        own = {f.name: getattr(self, f.name) for f in fields(MaskClientFields)}
        return FederatedSupermask(**own, merge="mean")

    def planned_claim(self, expected_rows: int) -> Claim:
        """As in `PrivateTrainer`: against `view`."""
        del expected_rows
        claim = self._view_claim(self.view)
        assert claim is not None  # Refused on construction.
        return claim

    def hosts(self) -> tuple[str, ...]:
        """As in `CanaryHost`."""
        return () if self.upload == "bits" else KINDS

    def planned_canary_claim(self, expected_rows: int, canaries: CanarySet) -> Claim | None:
        """As in `CanaryHost`: that of a run without canaries, against their observer."""
        del expected_rows
        check_kind(canaries)
        check_view(canaries.view)
        return self._view_claim(canaries.view)

    def fit_with_canaries(
        self,
        data: Rows,
        rows: BoolArray,
        canaries: CanarySet,
        *,
        seeds: Seeds,
        device: str,
        checkpoint: Path | None = None,
        progress: Progress = silent,
    ) -> Witnessed:
        """As in `CanaryHost`; the run is short and not resumed. Where clients share the noise of a sum, more of them
        hold smaller shares."""
        del checkpoint
        count = len(canaries.inside)
        federation = self.federation()
        if federation.protection is not None and canaries.view != "updates":
            federation = federation.with_protection(federation.protection.for_cohorts(1 + count / self.clients))
        claim = self._view_claim(canaries.view)
        return fit_canaries(
            federation,
            self.schedule(count),
            data,
            rows,
            canaries,
            claim=claim,
            seeds=seeds,
            device=device,
            progress=progress,
        )

    def _claim(self, weights: int) -> Claim | None:
        """The claim of a model with so many masked weights."""
        if self.masked_weights is not None and weights != self.masked_weights:
            raise IncompatibleError(
                f"the model has {weights} masked weights and masked_weights is {self.masked_weights}: the claim of "
                "clamped bits follows from their number"
            )
        return self._view_claim(self.view)

    def _view_claim(self, view: str) -> Claim | None:
        protection, how = self.protection(), self.schedule()
        if protection is None:
            assert self.clamp is not None
            assert self.masked_weights is not None
            # What the server learns from every upload bounds what anybody learns from less.
            return response_claim(self.clamp, self.masked_weights, how.sample_rate, how.rounds, self.delta)
        public: Mapping[str, Any] = {"sample_rate": how.sample_rate, "rounds": how.rounds, "delta": self.delta}
        return view_claim(protection, view, **public)  # type: ignore[arg-type]

    def _protection(self, noise_multiplier: float) -> Protection:
        clip = self.clip if self.flip_budget is None else self.flip_budget**0.5
        return _with_noise(Protection(clip, least_cohort=self.least_cohort), self.noise, noise_multiplier)

    def _check_bits(self) -> None:
        if self.clamp is None:
            raise ConfigError(f"dp-federated-supermask with upload 'bits' needs clamp: {NOTE}")
        if self.masked_weights is None or self.masked_weights < 1:
            raise ConfigError(f"clamped bits need masked_weights, the bits of one upload, got {self.masked_weights}")
        if self.epsilon is not None or self.noise_multiplier is not None:
            raise ConfigError("clamped bits are their own noise: give clamp alone, without epsilon or noise_multiplier")

    def _check_noise(self) -> None:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ConfigError(
                f"dp-federated-supermask needs either epsilon or noise_multiplier, got epsilon {self.epsilon} and "
                f"noise_multiplier {self.noise_multiplier}"
            )
        if self.noise_multiplier is not None and not self.noise_multiplier > 0:
            raise ConfigError(f"noise_multiplier must be > 0, got {self.noise_multiplier}; use 'federated-supermask'")
        if self.noise not in ("central", "local", "distributed"):
            raise ConfigError(f"noise must be 'central', 'local' or 'distributed', got {self.noise!r}")
        if self.noise == "distributed" and self.least_cohort < 2:
            raise ConfigError(f"distributed noise needs least_cohort >= 2, got {self.least_cohort}")
        if self._protection(1.0).against(self.view) is None:
            raise ConfigError(f"noise {self.noise!r} protects nobody from view {self.view!r}: choose another view")


def _with_noise(bare: Protection, placement: Placement, noise_multiplier: float) -> Protection:
    """`bare` with the noise where `placement` has it."""
    if placement == "central":
        return replace(bare, central=noise_multiplier, least_cohort=1)
    if placement == "local":
        return replace(bare, client=noise_multiplier)
    return replace(bare, client=noise_multiplier / bare.least_cohort**0.5, discrete=True)


# A search over accountants takes seconds, and protections are asked for often.
@lru_cache(maxsize=64)
def _calibrated(
    bare: Protection, placement: Placement, view: View, epsilon: float, delta: float, sample_rate: float, rounds: int
) -> float:
    if placement == "central":
        return calibrate_noise(epsilon=epsilon, delta=delta, sample_rate=sample_rate, steps=rounds)
    bare = replace(bare, client=0.0, discrete=False)
    return calibrated(
        lambda z: _with_noise(bare, placement, z), view, epsilon, sample_rate=sample_rate, rounds=rounds, delta=delta
    )
