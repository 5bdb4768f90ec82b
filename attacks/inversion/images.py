"""Image reconstruction as audit-file attacks: analytic, DLG and Inverting Gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ...audit.errors import IncompatibleError
from ...audit.games import Outcome, Stage
from ...audit.releases import ReleasesUpdates
from ...audit.seeds import Seeds
from ...audit.types import Access, Needs
from ..parameters import require_choice, require_integer, require_number
from .analytic import first_linear, follows_relu, invert_linear
from .matching import Matching, match
from .observation import Observation, check_observation
from .relu import invert_relu
from .threat import ThreatModel
from .victims import Scene, play_images

Labels = Literal["known", "restored"]
Normalisation = Literal["none", "fixed", "batch", "revealed"]


def threat_of(
    stage: Stage,
    *,
    batch_size: int,
    labels: str,
    normalisation: str = "none",
    trained_steps: int = 0,
    local_steps: int = 1,
) -> ThreatModel:
    """The threat model of a game against the stage's trainer, protection included."""
    trainer = stage.trainer
    if not isinstance(trainer, ReleasesUpdates):
        raise IncompatibleError(
            f"trainer {type(trainer).__name__} shows no single step, so there is no gradient to invert"
        )
    facts = trainer.release_facts(1e-5)
    return ThreatModel(
        released=facts.released,
        batch_size=batch_size,
        labels=labels,
        normalisation=normalisation,
        trained_steps=trained_steps,
        local_steps=local_steps,
        clip=facts.clip,
        noise=facts.noise,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyticInversion:
    """The inputs of a first linear layer, read off its gradient. Needs such a model (`mlp`, `logistic`).

    `method` "rows" divides rows of the weight's gradient by the bias's: exact for one record, a mixture for a batch
    (Phong et al. 2018, IEEE TIFS 13(5)). "relu" is exact for small batches, up to about 8, through a layer that ReLU
    follows (Dimitrov et al. 2024, arXiv 2403.03945); where it finds nothing it guesses the mean colour.
    """

    name: ClassVar[str] = "analytic"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "inversion"

    victims: int = 20
    batch_size: int = 1
    trained_steps: int = 0
    method: Literal["rows", "relu"] = "rows"

    def __post_init__(self) -> None:
        require_integer(self.name, "victims", self.victims, least=1)
        require_integer(self.name, "batch_size", self.batch_size, least=1)
        require_integer(self.name, "trained_steps", self.trained_steps, least=0)
        require_choice(self.name, "method", self.method, ("rows", "relu"))

    @property
    def needs(self) -> Needs:
        """The released gradient."""
        return Needs(access=Access.GRADIENTS)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """Every victim, exactly."""

        def invert(observation: Observation, scene: Scene, labels: Any, seeds: Seeds) -> Any:  # noqa: ARG001
            check_observation(observation.gradients, scene.module)
            layer = first_linear(scene.module)
            weight, bias = observation[f"{layer}.weight"], observation[f"{layer}.bias"]
            if self.method == "relu":
                inputs = _through_relu(weight, bias, scene.module, layer, self.batch_size, seeds)
            else:
                inputs = invert_linear(weight, bias, batch_size=self.batch_size)
            return scene.scale.to_pixels(inputs.reshape(len(inputs), *scene.private.shape[1:]))

        threat = threat_of(stage, batch_size=self.batch_size, labels="unused", trained_steps=self.trained_steps)
        return play_images(stage, threat, invert, victims=self.victims, seeds=seeds)


def _through_relu(weight: Any, bias: Any, module: Any, layer: str, batch: int, seeds: Seeds) -> Any:
    """Inputs (batch, in) of a layer that ReLU follows, zeros (the mean colour) where none are found."""
    import torch

    follows_relu(module, layer)
    own = module.get_submodule(layer)
    arrays = [t.detach().double().cpu().numpy() for t in (weight, bias, own.weight, own.bias)]
    found = invert_relu(*arrays, batch_size=batch, seeds=seeds)
    if found is None:
        return torch.zeros((batch, weight.shape[1]), dtype=weight.dtype, device=weight.device)
    return torch.from_numpy(found.inputs).to(weight.device, weight.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class InvertingGradients:
    """Images whose gradient points the same way, smooth ones first (Geiping et al. 2020, arXiv 2003.14053).

    Cosine distance, total variation, signed Adam on a cosine schedule, pixels kept in range; `restarts` in one program.
    `normalisation` says what batch normalisation does: "fixed" statistics (evaluation mode, the flattering setting most
    papers use), "batch" as in real training, "revealed" if the server also gets the batch statistics (then weighted by
    `statistics`), "none" for a model without. `trained_steps` on public rows come first; 0 is an untrained model, the
    other flattering setting. `labels` "restored" are read from the last layer's gradient.
    """

    name: ClassVar[str] = "inverting-gradients"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "inversion"

    victims: int = 20
    batch_size: int = 1
    iterations: int = 400
    learning_rate: float = 0.1
    total_variation: float = 0.1
    restarts: int = 1
    consistency: float = 0.0
    statistics: float = 0.01
    labels: Labels = "known"
    normalisation: Normalisation = "none"
    trained_steps: int = 0
    local_steps: int = 1

    def __post_init__(self) -> None:
        for key in ("victims", "batch_size", "iterations", "restarts", "local_steps"):
            require_integer(self.name, key, getattr(self, key), least=1)
        for key in ("total_variation", "consistency", "statistics"):
            require_number(self.name, key, getattr(self, key), low=0.0)
        require_choice(self.name, "labels", self.labels, ("known", "restored"))
        require_choice(self.name, "normalisation", self.normalisation, ("none", "fixed", "batch", "revealed"))

    @property
    def needs(self) -> Needs:
        """The released gradient."""
        return Needs(access=Access.GRADIENTS)

    def search(self) -> Matching:
        """How images are searched for."""
        return Matching(
            iterations=self.iterations,
            learning_rate=self.learning_rate,
            total_variation=self.total_variation,
            statistics=self.statistics if self.normalisation == "revealed" else 0.0,
            consistency=self.consistency,
            restarts=self.restarts,
        )

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """Every victim batch in turn."""
        threat = threat_of(
            stage,
            batch_size=self.batch_size,
            labels=self.labels,
            normalisation=self.normalisation,
            trained_steps=self.trained_steps,
            local_steps=self.local_steps,
        )
        return play_images(stage, threat, inverter(self.search()), victims=self.victims, seeds=seeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepLeakage:
    """Images whose gradient is the observed one, by L-BFGS in double precision, for smooth models such as `lenet`.

    DLG (Zhu, Liu and Han 2019, arXiv 1906.08935); with restored labels iDLG (Zhao, Mopuri and Bilen 2020, arXiv
    2001.02610).
    """

    name: ClassVar[str] = "dlg"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "inversion"

    victims: int = 20
    batch_size: int = 1
    iterations: int = 600
    restarts: int = 1
    labels: Labels = "known"
    trained_steps: int = 0

    def __post_init__(self) -> None:
        for key in ("victims", "batch_size", "iterations", "restarts"):
            require_integer(self.name, key, getattr(self, key), least=1)
        require_choice(self.name, "labels", self.labels, ("known", "restored"))

    @property
    def needs(self) -> Needs:
        """The released gradient."""
        return Needs(access=Access.GRADIENTS)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """Every victim batch in turn."""
        search = Matching(
            distance="euclidean",
            optimizer="lbfgs",
            iterations=self.iterations,
            learning_rate=1.0,
            total_variation=0.0,
            restarts=self.restarts,
            # Near the mean colour L-BFGS needs half the iterations that it needs from noise at full contrast.
            spread=0.1,
        )
        threat = threat_of(stage, batch_size=self.batch_size, labels=self.labels, trained_steps=self.trained_steps)
        return play_images(stage, threat, inverter(search), victims=self.victims, dtype="float64", seeds=seeds)


def inverter(search: Matching) -> Any:
    """The gradient-matching attack as a function of observation, scene, labels and seeds."""

    def invert(observation: Observation, scene: Scene, labels: Any, seeds: Seeds) -> Any:
        import torch

        shape = scene.private.shape[1:]
        zero = torch.zeros(shape, dtype=scene.dtype, device=scene.device)
        low, high = scene.scale.to_model(zero), scene.scale.to_model(zero + 1)
        found = match(observation, scene.module, labels, shape, search, low=low, high=high, seeds=seeds)
        return scene.scale.to_pixels(found.images)

    return invert
