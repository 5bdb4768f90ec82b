"""A malicious server: two layers put in front of the model sort the batch's images into bins (Robbing the Fed)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...audit.games import Measure, Outcome, Stage
from ...audit.seeds import Seeds
from ...audit.types import Access, Needs, Unit
from ..parameters import require_integer
from .images import threat_of
from .observation import Observation, check_observation
from .victims import Scene, play_images


@dataclass(frozen=True, slots=True, kw_only=True)
class Imprint:
    """Images out of the sum of any number of others, if the server may change the model (Fowl et al. 2022, Robbing the
    Fed, arXiv 2110.13057).

    Output i of the first added layer is the image's mean brightness less a threshold, and all outputs feed the second
    one alike: the gradients of neighbouring outputs differ by the images between their thresholds. `bins`
    thresholds are quantiles of public brightness; an image alone in its bin is read off exactly. It works on one
    gradient of a batch as on the sum of many clients that secure aggregation shows: `batch_size` counts them all.
    """

    name: ClassVar[str] = "imprint"
    version: ClassVar[str] = "1"
    family: ClassVar[str] = "inversion"
    unit: ClassVar[Unit] = Unit.RECORD

    victims: int = 20
    batch_size: int = 8
    bins: int = 100

    def __post_init__(self) -> None:
        for key, least in (("victims", 1), ("batch_size", 1), ("bins", 2)):
            require_integer(self.name, key, getattr(self, key), least=least)

    @property
    def needs(self) -> Needs:
        """The released gradient, of a model that the server chose."""
        return Needs(access=Access.GRADIENTS)

    def play(self, stage: Stage, *, seeds: Seeds) -> Outcome:
        """Every victim batch in turn, beside the share of images that are alone in their bin on average."""
        plain = threat_of(stage, batch_size=self.batch_size, labels="unused")
        threat = replace(plain, server=f"malicious: adds two layers that sort images into {self.bins} bins")

        def invert(observation: Observation, scene: Scene, labels: Any, seeds: Seeds) -> Any:  # noqa: ARG001
            check_observation(observation.gradients, scene.module)
            found = read_bins(observation["1.weight"], observation["1.bias"], self.batch_size)
            images = np.zeros((self.batch_size, *scene.private.shape[1:]))
            images[: len(found)] = found.reshape(-1, *images.shape[1:])
            return scene.scale.to_pixels(_tensor(images, scene))

        def imprinted(scene: Scene) -> Scene:
            public = scene.scale.to_model(_tensor(scene.public, scene)).flatten(1).mean(dim=1)
            return replace(scene, module=imprint(scene.module, public, scene.private.shape[1:], self.bins))

        outcome = play_images(stage, threat, invert, victims=self.victims, prepare=imprinted, seeds=seeds)
        alone = (1 - 1 / self.bins) ** (self.batch_size - 1)
        expected = Measure(alone, better=None)
        return replace(outcome, measures={**outcome.measures, "expected_alone_in_a_bin": expected})


def _tensor(images: NDArray[np.float64], scene: Scene) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(images)).to(scene.device, scene.dtype)


def imprint(module: Any, brightness: Any, shape: tuple[int, ...], bins: int) -> Any:
    """`module` behind the two added layers; `brightness` (public images,) is what thresholds are quantiles of."""
    import torch
    from torch import nn

    width = prod(shape)
    sort, back = nn.Linear(width, bins), nn.Linear(bins, width)
    levels = torch.linspace(0, 1, bins + 2, dtype=torch.float64)[1:-1]
    with torch.no_grad():
        sort.weight.fill_(1 / width)
        sort.bias.copy_(-torch.quantile(brightness.double().cpu(), levels))
        # The same column for every output: each active output gets the same gradient from an image.
        back.weight.copy_(torch.linspace(-1, 1, width)[:, None].expand(width, bins) / bins)
        back.bias.zero_()
    added = nn.Sequential(sort, nn.ReLU(), back, nn.Unflatten(1, shape)).to(brightness.device, brightness.dtype)
    return nn.Sequential(nn.Flatten(), *added, module).train(module.training)


def read_bins(weight_gradient: Any, bias_gradient: Any, batch: int) -> NDArray[np.float64]:
    """At most `batch` images (found, in) from the gradients (bins, in) and (bins,) of the sorting layer.

    Differences between neighbours belong to one bin each; those of the largest bias gradients hold an image.
    """
    weight, bias = weight_gradient.double().cpu().numpy(), bias_gradient.double().cpu().numpy()
    by_bin = weight - np.vstack([weight[1:], np.zeros_like(weight[:1])])
    share = bias - np.append(bias[1:], 0.0)
    filled = np.argsort(-np.abs(share))[:batch]
    filled = filled[np.abs(share[filled]) > 1e-6 * np.abs(share).max()]
    images: NDArray[np.float64] = by_bin[filled] / share[filled, None]
    return images
