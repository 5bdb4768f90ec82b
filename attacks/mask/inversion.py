"""Images out of what mask training shows: score gradients, score updates of clients, sampled bits and flips."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.games import Outcome, Stage
from ...audit.releases import ReleasesUpdates, SendsUploads, UploadFacts
from ...audit.seeds import Seeds
from ...audit.types import Access, Needs, Unit
from ..inversion.images import threat_of
from ..inversion.matching import Matching, match
from ..inversion.observation import Observation, observe, trainable
from ..inversion.threat import ThreatModel
from ..inversion.victims import Scene, play_images
from ..parameters import require_choice, require_integer, require_number
from .decoding import direction, image_of, image_of_signs
from .matching import exact_scale, upload_loss
from .model import MaskedModel, Piece, masked_model
from .uploads import moves

DELTA = 1e-5
"""Where the claim of an upload is stated in the words of the threat model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskInversion:
    """The image of a client from the mask it shares, or from the score gradient of one step.

    Clients of `federated-supermask` and `dp-federated-supermask` train on `batch_size` records and send `uploads` times
    from the same global scores; `supermask` and `dp-supermask` show one gradient. `method` "rank-one" reads the first
    linear layer (`attacks.mask.decoding`): one record, a model whose first layer is linear (`mlp`, `logistic`).
    "matching" searches for images under which the client's scores would have moved so, in all layers, by the likelihood
    of sampled bits and by cosine otherwise. Labels are known. The attacker knows the client's optimizer and the public
    images, not which masks the client drew on the way.
    """

    name: ClassVar[str] = "mask-inversion"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "inversion"
    unit: ClassVar[Unit] = Unit.RECORD

    victims: int = 20
    batch_size: int = 1
    uploads: int = 1
    method: Literal["rank-one", "matching"] = "rank-one"
    iterations: int = 200
    learning_rate: float = 0.1
    total_variation: float = 0.1
    restarts: int = 1

    def __post_init__(self) -> None:
        for key in ("victims", "batch_size", "uploads", "iterations", "restarts"):
            require_integer(self.name, key, getattr(self, key), least=1)
        require_number(self.name, "total_variation", self.total_variation, low=0.0)
        require_number(self.name, "learning_rate", self.learning_rate, low=1e-6)
        require_choice(self.name, "method", self.method, ("rank-one", "matching"))
        if self.method == "rank-one" and self.batch_size > 1:
            raise ConfigError(
                f"attack {self.name!r}: method 'rank-one' reads one record, got batch_size {self.batch_size}: use "
                "method 'matching'"
            )

    @property
    def needs(self) -> Needs:
        """What one client sends, or the released gradient."""
        return Needs(access=Access.GRADIENTS)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """Every victim in turn. `IncompatibleError` for a trainer that shows no mask in the making."""
        if isinstance(stage.trainer, SendsUploads):
            return self._play_uploads(stage, stage.trainer, seeds)
        if isinstance(stage.trainer, ReleasesUpdates):
            return self._play_gradient(stage, seeds)
        raise IncompatibleError(
            f"attack {self.name!r}: trainer {type(stage.trainer).__name__} shows neither uploads nor a single step: "
            "audit a supermask trainer"
        )

    def search(self) -> Matching:
        """How images are searched for."""
        return Matching(
            iterations=self.iterations,
            learning_rate=self.learning_rate,
            total_variation=self.total_variation,
            restarts=self.restarts,
        )

    def _play_gradient(self, stage: Stage, seeds: Seeds) -> Outcome:
        threat = threat_of(stage, batch_size=self.batch_size, labels="known")

        def invert(observation: Observation, scene: Scene, labels: Any, seeds: Seeds) -> Any:
            model = masked_model(scene.module, f"attack {self.name!r}")
            if self.method == "matching":
                return _searched(observation, scene, labels, self.search(), None, seeds)
            matrix = _first_layer(observation, model, scene, linear=True)
            guess = image_of(matrix, _public(scene))
            if direction(matrix) is not None:
                guess = exact_scale(guess, observation["scores"], model, labels, scene)
            return _pixels(guess, scene)

        def see(scene: Scene, features: Any, labels: Any, seeds: Seeds) -> Observation:
            masked_model(scene.module, f"attack {self.name!r}")
            return observe(scene.trainer, scene.module, features, labels, threat=threat, seeds=seeds)

        return play_images(stage, threat, invert, victims=self.victims, dtype="float64", see=see, seeds=seeds)

    def _play_uploads(self, stage: Stage, trainer: SendsUploads, seeds: Seeds) -> Outcome:
        facts = trainer.upload_facts(self.batch_size, 1, DELTA)

        def see(scene: Scene, features: Any, labels: Any, seeds: Seeds) -> Observation:
            masked_model(scene.module, f"attack {self.name!r}")
            sent = trainer.client_uploads(
                scene.module, features[None], labels[None], uploads=self.uploads, seeds=seeds
            )[0]
            start = _start(scene.module)
            return _as_observation(scene, -moves(sent, start, facts), threat)

        def invert(observation: Observation, scene: Scene, labels: Any, seeds: Seeds) -> Any:
            model = masked_model(scene.module, f"attack {self.name!r}")
            if self.method == "matching":
                return _searched(observation, scene, labels, self.search(), facts, seeds)
            linear = facts.optimizer == "sgd" and (facts.kind == "scores" or (facts.sampled and facts.smooth))
            matrix = _first_layer(observation, model, scene, linear=linear)
            return _pixels((image_of if linear else image_of_signs)(matrix, _public(scene)), scene)

        threat = ThreatModel(released=facts.released, batch_size=self.batch_size)
        outcome = play_images(stage, threat, invert, victims=self.victims, see=see, seeds=seeds)
        return replace(outcome, threat=self._words(facts))

    def _words(self, facts: UploadFacts) -> dict[str, str]:
        often = "" if self.uploads == 1 else f", {self.uploads} times from the same global scores"
        return {
            "holds": f"{facts.released}{often}, after {facts.steps} local steps of {facts.optimizer}",
            "knows": f"global scores, frozen weights, the optimizer, the number of records {self.batch_size}, labels "
            "known, public images; not the masks that the client drew",
            "server": "honest but curious",
        }


def _start(module: Any) -> NDArray[np.float64]:
    start: NDArray[np.float64] = module.scores.detach().double().cpu().numpy()
    return start


def _as_observation(scene: Scene, gradient: NDArray[np.float64], threat: ThreatModel) -> Observation:
    """Minus the moves, in the place of a gradient, split into the module's trainables."""
    import torch

    parameters = trainable(scene.module)
    flat: Any = torch.from_numpy(gradient).to(scene.device, scene.dtype)
    if len(flat) == len(parameters["scores"]) and len(parameters) > 1:
        # Bits and flips say nothing of a trained head; there is none where they travel.
        raise IncompatibleError("the upload has no part for the trained head")
    parts = flat.split([p.numel() for p in parameters.values()])
    return Observation(
        tuple(part.view_as(p) for part, p in zip(parts, parameters.values(), strict=True)), tuple(parameters), threat
    )


def _first_layer(observation: Observation, model: MaskedModel, scene: Scene, *, linear: bool) -> NDArray[np.float64]:
    """(out, in): what was seen of the first layer's scores, divided by the frozen weights where it is in proportion to
    the gradient (`linear`), turned by their signs otherwise."""
    piece = _first_linear(model, prod(scene.private.shape[1:]))
    factor = (model.frozen * model.slopes())[piece.place].detach().double().cpu().numpy()
    here = observation["scores"].double().cpu().numpy()[piece.place]
    known = factor != 0
    turned = np.where(known, here / np.where(known, factor, 1.0), 0.0) if linear else here * np.sign(factor)
    return np.asarray(turned.reshape(piece.shape), np.float64)


def _first_linear(model: MaskedModel, width: int) -> Piece:
    first = model.pieces[0]
    if model.place != "weights" or len(first.shape) != 2 or first.shape[1] != width:
        raise IncompatibleError(
            f"method 'rank-one' reads a masked first linear layer of {width} inputs, the first masked piece is "
            f"{first.name!r} of shape {tuple(first.shape)}: use method 'matching'"
        )
    return first


def _public(scene: Scene) -> NDArray[np.float64]:
    """(images, in) in the model's scale."""
    import torch

    public = scene.scale.to_model(torch.from_numpy(scene.public).to(scene.device))
    out: NDArray[np.float64] = public.flatten(1).double().cpu().numpy()
    return out


def _pixels(guess: NDArray[np.float64], scene: Scene) -> Any:
    import torch

    values = torch.from_numpy(guess).to(scene.device, scene.dtype).view(1, *scene.private.shape[1:])
    return scene.scale.to_pixels(values)


def _searched(
    observation: Observation,
    scene: Scene,
    labels: Any,
    search: Matching,
    upload: UploadFacts | None,
    seeds: Seeds,
) -> Any:
    import torch

    shape = scene.private.shape[1:]
    zero = torch.zeros(shape, dtype=scene.dtype, device=scene.device)
    low, high = scene.scale.to_model(zero), scene.scale.to_model(zero + 1)
    loss = None
    if upload is not None:
        loss = upload_loss(observation["scores"], scene.module, labels, search, upload)
    found = match(observation, scene.module, labels, shape, search, low=low, high=high, seeds=seeds, loss=loss)
    return scene.scale.to_pixels(found.images)
