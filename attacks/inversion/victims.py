"""The stage of an image reconstruction: victims, the model they met, and the same game for every method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audit.errors import ConfigError, IncompatibleError
from ...audit.games import Example, Measure, Outcome, Stage
from ...audit.metrics.intervals import binomial_interval
from ...audit.releases import ReleasesUpdates, SendsUploads
from ...audit.seeds import Seeds
from .image_metrics import assign, psnr, ssim
from .labels import last_linear, restore_labels
from .matched_filter import train_on_public
from .observation import Observation, observe
from .threat import ThreatModel

SHOWN = 12
"""Victims whose images go into the report, masked unless revealed."""
EXACT_ABOVE = 100.0
"""PSNR in dB above which an image counts as exact: an error of a hundred-thousandth of the range of a pixel."""
FEW = 20
"""Below this many victims an average says little, and the finding says so."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What the model sees of a pixel: (value - centre) / spread, by channel, from public images."""

    centre: Any
    spread: Any

    def to_model(self, images: Any) -> Any:
        """From [0, 1] to the model's scale; images (..., channels, height, width)."""
        return (images - self.centre) / self.spread

    def to_pixels(self, values: Any) -> Any:
        """Back to [0, 1]."""
        return (values * self.spread + self.centre).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class Scene:
    """The model under attack and the public images that an attacker has anyway."""

    module: Any
    scale: Scale
    public: NDArray[np.float64]
    private: NDArray[np.float64]
    labels: NDArray[np.int64]
    trainer: Any
    device: str
    dtype: Any


See = Callable[[Scene, Any, Any, Seeds], Observation]
"""Scene, features (batch, ...) in the model's scale, labels (batch,) and streams to what the server sees of them."""
Invert = Callable[[Observation, Scene, Any, Seeds], Any]
"""Observation, scene, labels (batch,) and streams to images (batch, channels, height, width) in [0, 1]."""


def play_images(
    stage: Stage,
    threat: ThreatModel,
    invert: Invert,
    *,
    victims: int,
    dtype: str = "float32",
    prepare: Callable[[Scene], Scene] | None = None,
    see: See | None = None,
    seeds: Seeds,
) -> Outcome:
    """Every victim batch observed and inverted; PSNR and SSIM over all victims next to the priors. A malicious server
    changes the model in `prepare`; `see` is what the server sees where that is not one gradient.

    `ConfigError` for records that are no images or too few of them.
    """
    scene = set_scene(stage, threat, dtype=dtype, seeds=seeds)
    scene = scene if prepare is None else prepare(scene)
    order = seeds.at("victims").generator().permutation(len(scene.private))
    needed = victims * threat.batch_size
    if len(order) < needed:
        raise ConfigError(f"{victims} victim batches of {threat.batch_size} need {needed} records, got {len(order)}")
    originals, found = [], []
    for number in range(victims):
        chosen = order[number * threat.batch_size : (number + 1) * threat.batch_size]
        images = scene.private[chosen]
        kept = stage.folder / f"victim-{number:03d}.npy"
        if not kept.is_file():
            one = reconstruct(
                scene, images, scene.labels[chosen], threat, invert, see, seeds=seeds.at("victim", number)
            )
            _keep(kept, one)
        guesses: NDArray[np.float64] = np.load(kept, allow_pickle=False)
        originals.append(images)
        found.append(guesses[assign(images, guesses)])
        stage.progress(number + 1, victims)
    return outcome(np.concatenate(originals), np.concatenate(found), scene, threat, stage.confidence)


def set_scene(stage: Stage, threat: ThreatModel, *, dtype: str, seeds: Seeds) -> Scene:
    """The model as the attack finds it, in the mode that the threat model says, and everything public."""
    import torch

    trainer = stage.trainer
    if not isinstance(trainer, ReleasesUpdates | SendsUploads):
        raise IncompatibleError(
            f"trainer {type(trainer).__name__} shows no single step, so there is no gradient to invert"
        )
    if stage.private.features.ndim != 4:
        raise ConfigError(
            f"{stage.private.name}: image inversion needs images, got shape {stage.private.features.shape}"
        )
    if not len(stage.population):
        raise ConfigError("image inversion needs public images for its priors: leave some records out of the audit")
    kind = getattr(torch, dtype)
    public = np.asarray(stage.population.features, np.float64)
    spread = np.maximum(public.std(axis=(0, 2, 3)), 1e-3)
    scale = Scale(
        torch.tensor(public.mean(axis=(0, 2, 3))[:, None, None], dtype=kind, device=stage.device),
        torch.tensor(spread[:, None, None], dtype=kind, device=stage.device),
    )
    module = trainer.fresh_model(stage.private, seeds=seeds.at("model"), device=stage.device).to(kind)
    if threat.trained_steps:
        train_on_public(module.float(), stage, threat.trained_steps, seeds=seeds.at("pretrain"), scale=scale)
        module = module.to(kind)
    module.train(threat.normalisation in ("batch", "revealed"))
    private = np.asarray(stage.private.features, np.float64)
    return Scene(module, scale, public, private, stage.private.labels, trainer, stage.device, kind)


def reconstruct(
    scene: Scene,
    images: NDArray[np.float64],
    labels: NDArray[np.int64],
    threat: ThreatModel,
    invert: Invert,
    see: See | None = None,
    *,
    seeds: Seeds,
) -> NDArray[np.float64]:
    """One batch: observed by the server, inverted by the attack. (batch, channels, height, width) in [0, 1]."""
    import torch

    truth = torch.from_numpy(labels).to(scene.device)
    seen = scene.scale.to_model(torch.from_numpy(images).to(scene.device, scene.dtype))
    if see is None:
        observation = observe(scene.trainer, scene.module, seen, truth, threat=threat, seeds=seeds.at("release"))
    else:
        observation = see(scene, seen, truth, seeds.at("release"))
    known = truth
    if threat.labels == "restored":
        name, _ = last_linear(scene.module)
        known = torch.from_numpy(restore_labels(observation[f"{name}.bias"], threat.batch_size)).to(scene.device)
    found = invert(observation, scene, known, seeds.at("search"))
    guesses: NDArray[np.float64] = found.detach().double().cpu().numpy()
    return guesses


def outcome(
    originals: NDArray[np.float64],
    found: NDArray[np.float64],
    scene: Scene,
    threat: ThreatModel,
    confidence: float,
) -> Outcome:
    """Averages over victims with their intervals, beside the mean image and the nearest public image."""
    mean_image = np.broadcast_to(scene.public.mean(axis=0), originals.shape)
    nearest = nearest_public(originals, scene.public)
    quality, likeness = psnr(originals, found), ssim(originals, found)

    def average(values: NDArray[np.float64], **more: Any) -> Measure:
        # Images of one batch share a gradient: the batch is what is independent.
        return mean_measure(values.reshape(-1, threat.batch_size).mean(axis=1), confidence, **more)

    prior = average(psnr(originals, mean_image), name="mean public image")
    best_public = average(
        psnr(originals, nearest), name="nearest public image, picked by somebody who knows the victim"
    )
    exact = (quality > EXACT_ABOVE).reshape(-1, threat.batch_size).mean(axis=1)
    measures = {
        "psnr": average(quality, unit="dB", baseline=prior),
        "psnr_beside_nearest": average(quality, unit="dB", baseline=best_public),
        "ssim": cut(average(likeness, baseline=average(ssim(originals, mean_image), name="mean public image"))),
        "exact_share": share_measure(exact, confidence, baseline=Measure(0.0, name="guessing")),
    }
    examples = tuple(
        Example("image", f"victim {k + 1}", originals[k], found[k], float(quality[k]), "psnr")
        for k in range(min(SHOWN, len(found)))
    )
    victims = len(found) // threat.batch_size
    notes = () if victims >= FEW else (f"only {victims} victim batches: an average over fewer than {FEW} says little",)
    return Outcome(measures, threat.describe(), examples=examples, notes=notes)


def nearest_public(originals: NDArray[np.float64], public: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each original the public image of least squared error: what an attacker could have guessed at best."""
    flat, pool = originals.reshape(len(originals), -1), public.reshape(len(public), -1)
    distance = (pool**2).sum(axis=1)[None] - 2 * flat @ pool.T
    nearest: NDArray[np.float64] = public[distance.argmin(axis=1)]
    return nearest


def mean_measure(
    values: NDArray[np.float64],
    confidence: float,
    *,
    unit: str | None = None,
    baseline: Measure | None = None,
    name: str | None = None,
    better: Any = "lower",
) -> Measure:
    """A mean over victims with Student's interval (no interval for fewer than two). Higher is worse for privacy."""
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Measure(mean, n=count, unit=unit, baseline=baseline, name=name, better=better)
    half = float(t.ppf((1 + confidence) / 2, count - 1)) * float(np.std(values, ddof=1)) / sqrt(count)
    return Measure(mean, mean - half, mean + half, count, baseline, unit, better, name)


def cut(found: Measure, least: float = -1.0) -> Measure:
    """The same with its interval cut to [`least`, 1], beyond which the quantity has no values."""
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(least, found.low), high=min(1.0, found.high))


def share_measure(
    values: NDArray[Any], confidence: float, *, baseline: Measure | None = None, name: str | None = None
) -> Measure:
    """As `mean_measure` for values in [0, 1], the interval cut there. Where all victims agree on 0 or 1, Student's has
    no width, and the exact binomial interval stands in for it."""
    found = mean_measure(np.asarray(values, np.float64), confidence, baseline=baseline, name=name)
    if found.value in (0.0, 1.0):
        exact = binomial_interval(round(found.value * len(values)), len(values), confidence)
        return replace(found, low=exact.low, high=exact.high)
    return cut(found, 0.0)


def _keep(path: Path, images: NDArray[np.float64]) -> None:
    """Written beside and renamed, so that a killed game finds whole files only."""
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as stream:
        np.save(stream, images)
    temporary.replace(path)
