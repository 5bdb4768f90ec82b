"""The trainers `federated` and `dp-federated`: FedAvg and FedSGD over simulated clients."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...audit.accounting import calibrate_noise
from ...audit.canaries import CanarySet, Witnessed
from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Claim, Progress, Rows, Trained, silent
from ..models import ModelSpec
from ..persistence import load_trained, plain_spec, save_trained
from ..transformer import TransformerTable
from ..transformer.files import outside_files
from .canaries import KINDS, check_kind
from .claims import calibrated
from .layout import Flat
from .local import Algorithm, LocalPlan
from .partition import PartitionKind, PartitionSpec
from .protection import AdaptiveClip, Protection, View, check_view
from .recipe import FederatedRecipe
from .rounds import Weighting
from .server import Floats, Law
from .training import client_update, fit_canaries, fit_federated
from .views import load_transcript, save_transcript


@dataclass(frozen=True, slots=True)
class Clients:
    """What both trainers share: clients, their local training, and the server's steps.

    `clients` hold the records by `partition` "iid", "dirichlet" (`concentration`: small is skewed) or "natural" (the
    data's groups); `partition_seed` fixes who holds what for all models of an audit. Each round every client joins on
    its own with rate `cohort` / `nominal_clients` (default: `clients`) and fails with `client_dropout`. `algorithm`
    "fedavg" does `local_epochs` of SGD, "fedsgd" one step on all of the client's rows. `view` is the observer whose
    transcript is kept: "updates", "sum", "global-models" or "final-model".
    """

    model: str = "mlp"
    hidden: tuple[int, ...] = (32,)
    channels: tuple[int, ...] = (8, 16)
    clients: int | None = 20
    partition: PartitionKind = "iid"
    concentration: float = 0.5
    partition_seed: int = 0
    nominal_clients: int | None = None
    cohort: float = 10
    rounds: int = 30
    client_dropout: float = 0.0
    algorithm: Algorithm = "fedavg"
    local_epochs: int = 1
    batch_size: int = 16
    learning_rate: float = 0.1
    server_learning_rate: float = 1.0
    server_momentum: float = 0.0
    view: View = "final-model"
    dtype: Literal["float32", "float64"] = "float32"
    transformer: TransformerTable | None = None

    def recipe(self) -> FederatedRecipe:
        """This trainer as the loop sees it."""
        raise NotImplementedError

    def outside(self) -> dict[str, str]:
        """Digests of the files that training starts from; empty where there are none."""
        return outside_files(self.transformer)

    def hosts(self) -> tuple[str, ...]:
        """As in `CanaryHost`."""
        return KINDS

    def client_update(self, model: Any, rows: Rows, weights: Flat, *, seeds: Seeds, device: str) -> Floats:
        """What a client with `rows` sends from the global `weights` (dimension,), as the server sees it arrive."""
        return client_update(self.recipe(), model, rows, weights, seeds=seeds, device=device)

    def load(self, folder: Path, data: Rows, *, device: str) -> Trained:
        """As in `Trainer`; the transcript is memory-mapped."""
        trained = load_trained(folder, data, recipe=self.recipe().plain(), device=device)
        transcript = load_transcript(folder)
        return Trained(trained.model, trained.target, trained.claim, trained.steps, trained.metrics, transcript)

    def save(self, trained: Trained, folder: Path) -> None:
        """As in `Trainer`, and the transcript of `view` beside the model."""
        save_trained(trained, folder, spec=plain_spec(self))
        if trained.transcript is not None:
            save_transcript(trained.transcript, folder)

    def planned_steps(self, expected_rows: int) -> int:
        """Rounds, known before training."""
        del expected_rows
        return self.rounds

    def _common(self) -> dict[str, Any]:
        natural = self.partition == "natural"
        spec = PartitionSpec(self.partition, None if natural else self.clients, self.concentration, self.partition_seed)
        return {
            "model": ModelSpec(self.model, tuple(self.hidden), tuple(self.channels), transformer=self.transformer),
            "partition": spec,
            "local": LocalPlan(self.algorithm, self.local_epochs, self.batch_size, self.learning_rate),
            "rounds": self.rounds,
            "cohort": self.cohort,
            "nominal_clients": self.nominal_clients if natural else self.nominal_clients or self.clients,
            "dropout": self.client_dropout,
            "server_learning_rate": self.server_learning_rate,
            "server_momentum": self.server_momentum,
            "view": self.view,
            "dtype": self.dtype,
        }


@dataclass(frozen=True, slots=True)
class Federated(Clients):
    """Federated learning without protection; it makes no claim, and hosts canary clients all the same.

    `weighting` "examples" takes the mean over those who answer by number of examples; "uniform" divides the sum by the
    fixed expected cohort. `buffers` (running statistics of batch normalisation): "average" over the clients of a
    round, or "freeze".
    """

    name: ClassVar[str] = "federated"
    version: ClassVar[str] = "1"

    weighting: Weighting = "examples"
    buffers: Literal["average", "freeze"] = "average"

    def __post_init__(self) -> None:
        if self.buffers not in ("average", "freeze"):
            raise ConfigError(f"buffers must be 'average' or 'freeze', got {self.buffers!r}")
        self.recipe()

    def recipe(self) -> FederatedRecipe:
        """As in `Clients`."""
        return FederatedRecipe(**self._common(), weighting=self.weighting, buffers=self.buffers)

    def fit(self, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """As in `Trainer`."""
        recipe = self.recipe()
        return fit_federated(recipe, data, rows, delta=None, seeds=seeds, device=device, checkpoint=checkpoint)

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
        recipe = self.recipe()
        return fit_canaries(recipe, data, rows, canaries, delta=None, seeds=seeds, device=device, progress=progress)


Placement = Literal["central", "local", "both", "distributed"]


@dataclass(frozen=True, slots=True)
class DpFederated(Clients):
    """DP-FedAvg and DP-FedSGD (McMahan et al. 2018, arXiv 1710.06963): each client's update is clipped to `clip` over
    all parameters, sums are divided by the expected cohort, and noise is added by the server or the clients.

    `noise` "central": the server adds `noise_multiplier` x clip to the sum. "local": each client adds it to its update.
    "both": the server `noise_multiplier`, each client `client_noise_multiplier`. "distributed": clients round to a grid
    of `bits` and add discrete Gaussian shares, `noise_multiplier` in all when `least_cohort` of them answer; with
    fewer, nothing is released. `mechanism` "laplace" clips in L1. Give `noise_multiplier`, or `epsilon` to calibrate
    it for the observer `view`. `secure_sum` "masked" really masks and unmasks the sums of "distributed" noise.
    `adaptive_clip` follows `clip_quantile` of the norms; `count_noise` is the noise on its count. `buffers` "refuse"
    rejects models with batch normalisation, "freeze" keeps their statistics as they start.
    """

    name: ClassVar[str] = "dp-federated"
    version: ClassVar[str] = "1"

    noise: Placement = "central"
    mechanism: Law = "gaussian"
    epsilon: float | None = None
    delta: float = 1e-5
    noise_multiplier: float | None = None
    client_noise_multiplier: float | None = None
    clip: float = 1.0
    adaptive_clip: bool = False
    clip_quantile: float = 0.5
    clip_learning_rate: float = 0.2
    count_noise: float | None = None
    least_cohort: int = 1
    bits: int = 16
    secure_sum: Literal["exact", "masked"] = "exact"
    buffers: Literal["refuse", "freeze"] = "refuse"

    def __post_init__(self) -> None:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ConfigError(
                f"dp-federated needs either epsilon or noise_multiplier, got epsilon {self.epsilon} and "
                f"noise_multiplier {self.noise_multiplier}"
            )
        if self.noise_multiplier is not None and not self.noise_multiplier > 0:
            raise ConfigError(
                f"noise_multiplier must be > 0, got {self.noise_multiplier}; use trainer 'federated' for none"
            )
        if not 0 < self.delta < 1:
            raise ConfigError(f"delta must lie in (0, 1), got {self.delta}")
        self._check_placement()
        recipe = self._recipe(self.noise_multiplier or 1.0, adapts=self.noise_multiplier is not None)
        if recipe.nominal_clients is None:
            raise ConfigError("dp-federated with partition 'natural' needs nominal_clients, a public number of clients")
        if recipe.protection is not None and recipe.protection.against(self.view) is None:
            raise ConfigError(
                f"noise {self.noise!r} protects nobody from view {self.view!r}: choose another view, or noise that "
                "clients add themselves"
            )

    def recipe(self) -> FederatedRecipe:
        """As in `Clients`, with the noise calibrated where `epsilon` is given."""
        if self.noise_multiplier is not None:
            return self._recipe(self.noise_multiplier)
        assert self.epsilon is not None
        # Both parts of an adaptive clip together cost what the noise multiplier says, so it does not enter here.
        plain = self._recipe(1.0, adapts=False)
        schedule = plain.schedule(1)
        assert plain.protection is not None
        return self._recipe(
            _calibrated(
                self.noise,
                plain.protection,
                self.view,
                epsilon=self.epsilon,
                sample_rate=schedule.sample_rate,
                rounds=schedule.rounds,
                delta=self.delta,
            )
        )

    def fit(self, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str, checkpoint: Path | None = None) -> Trained:
        """As in `Trainer`. Raises `IncompatibleError` for a model with buffers, unless they are frozen."""
        recipe = self.recipe()
        return fit_federated(recipe, data, rows, delta=self.delta, seeds=seeds, device=device, checkpoint=checkpoint)

    def unprotected(self) -> Federated:
        """The same clients, sampling, rounds and divisor without clipping and noise."""
        own = {f.name: getattr(self, f.name) for f in fields(Clients)}
        return Federated(**own, weighting="uniform", buffers="freeze" if self.buffers == "freeze" else "average")

    def planned_claim(self, expected_rows: int) -> Claim:
        """As in `PrivateTrainer`: against `view`."""
        del expected_rows
        claim = self.recipe().claim(self.view, self.delta)
        assert claim is not None  # Refused on construction.
        return claim

    def planned_canary_claim(self, expected_rows: int, canaries: CanarySet) -> Claim | None:
        """As in `CanaryHost`: that of a run without canaries, against their observer."""
        del expected_rows
        check_kind(canaries)
        check_view(canaries.view)
        return self.recipe().claim(canaries.view, self.delta)  # type: ignore[arg-type]

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
        return fit_canaries(
            self.recipe(), data, rows, canaries, delta=self.delta, seeds=seeds, device=device, progress=progress
        )

    def _check_placement(self) -> None:
        if self.noise not in ("central", "local", "both", "distributed"):
            raise ConfigError(f"noise must be 'central', 'local', 'both' or 'distributed', got {self.noise!r}")
        own = self.client_noise_multiplier
        if (self.noise == "both") != (own is not None):
            raise ConfigError(f"client_noise_multiplier goes with noise 'both', got {own} with {self.noise!r}")
        if own is not None and not own > 0:
            raise ConfigError(f"client_noise_multiplier must be > 0, got {own}")
        if self.noise == "distributed" and self.least_cohort < 2:
            raise ConfigError(
                f"distributed noise needs least_cohort >= 2, the clients whose shares are counted on, got "
                f"{self.least_cohort}: the sum of one client is its update"
            )
        if self.secure_sum not in ("exact", "masked"):
            raise ConfigError(f"secure_sum must be 'exact' or 'masked', got {self.secure_sum!r}")
        if self.secure_sum == "masked" and self.noise != "distributed":
            raise ConfigError(f"secure_sum 'masked' sums integers: set noise = 'distributed', got {self.noise!r}")
        if self.buffers not in ("refuse", "freeze"):
            raise ConfigError(
                f"buffers must be 'refuse' or 'freeze', got {self.buffers!r}: averaged buffers are not protected"
            )

    def _recipe(self, noise_multiplier: float, *, adapts: bool = True) -> FederatedRecipe:
        adaptive = None
        if self.adaptive_clip and adapts:
            counted = self.cohort / 20 if self.count_noise is None else self.count_noise
            adaptive = AdaptiveClip(self.clip_quantile, self.clip_learning_rate, counted)
        bare = Protection(
            clip=self.clip,
            law=self.mechanism,
            client=self.client_noise_multiplier or 0.0,
            discrete=self.noise == "distributed",
            bits=self.bits,
            least_cohort=1 if self.noise == "central" else self.least_cohort,
        )
        return FederatedRecipe(
            **self._common(),
            buffers=self.buffers,
            masked=self.secure_sum == "masked",
            protection=replace(_with_noise(bare, self.noise, noise_multiplier), adaptive=adaptive),
        )


def _with_noise(bare: Protection, placement: Placement, noise_multiplier: float) -> Protection:
    """`bare` with the noise where `placement` has it; with "both", `bare` holds the clients' own."""
    if placement == "local":
        return replace(bare, client=noise_multiplier)
    if placement == "distributed":
        return replace(bare, client=noise_multiplier / bare.least_cohort**0.5)
    return replace(bare, central=noise_multiplier)


# A search over accountants takes seconds, and recipes are asked for often.
@lru_cache(maxsize=64)
def _calibrated(
    placement: Placement,
    bare: Protection,
    view: View,
    *,
    epsilon: float,
    sample_rate: float,
    rounds: int,
    delta: float,
) -> float:
    if placement == "central" and bare.law == "gaussian":
        return calibrate_noise(epsilon=epsilon, delta=delta, sample_rate=sample_rate, steps=rounds)
    return calibrated(
        lambda z: _with_noise(bare, placement, z),
        view,
        epsilon,
        sample_rate=sample_rate,
        rounds=rounds,
        delta=delta,
    )
