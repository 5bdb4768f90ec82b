"""Models as an attacker's queries see them: torch modules, scikit-learn estimators, callables, Hugging Face models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..audit.errors import ConfigError, IncompatibleError, PrerequisiteError
from ..audit.registry import load_attribute
from ..audit.seeds import Seeds
from ..audit.types import Rows, Target
from .models import ModelSpec, build_model
from .tensors import CHUNK, feature_tensor

if TYPE_CHECKING:
    from torch import Tensor, nn

FLOOR = 1e-30
"""Probabilities given by others are raised to this before the logarithm: a zero would score minus infinity."""


class TorchTarget:
    """A torch module that maps features to logits (records, classes), or to an object with `.logits`.

    The module is put in evaluation mode, and found to be in it at every query: dropout or batch statistics during
    queries would make signals random or let records of one query influence each other.
    """

    def __init__(self, module: nn.Module, device: str) -> None:
        self.module, self.device = module.to(device).eval(), device

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """As in `Target`. Raises `IncompatibleError` when the module is in training mode or does not give logits."""
        import torch

        training = [name or "the model" for name, m in self.module.named_modules() if m.training]
        if training:
            raise IncompatibleError(
                f"target: {training[0]} is in training mode; call .eval() on the model before querying"
            )
        dtype = next((p.dtype for p in self.module.parameters() if p.is_floating_point()), torch.float32)
        tensor = feature_tensor(features, dtype=dtype, device=self.device)
        with torch.inference_mode():
            parts = [torch.log_softmax(self._logits(part), dim=1).cpu().numpy() for part in torch.split(tensor, CHUNK)]
        return np.concatenate(parts)

    def _logits(self, features: Tensor) -> Tensor:
        return _as_logits(self.module(features), len(features))


class EstimatorTarget:
    """A fitted scikit-learn classifier: `predict_proba` on features flattened to (records, columns).

    Columns follow `classes_`, which must be whole numbers, the labels of the audit; with `classes` given, classes that
    the estimator never saw get probability 0.
    """

    def __init__(self, estimator: Any, classes: int | None = None) -> None:
        if not hasattr(estimator, "predict_proba"):
            raise IncompatibleError(
                f"target: {type(estimator).__name__} has no predict_proba; an audit needs class probabilities"
            )
        labels = np.asarray(getattr(estimator, "classes_", ()))
        if not len(labels):
            raise IncompatibleError(f"target: {type(estimator).__name__} is not fitted")
        if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
            raise IncompatibleError(
                f"target: classes of the estimator must be integers from 0, got {labels[:5].tolist()}"
            )
        self.estimator, self.labels = estimator, labels
        self.classes = classes or int(labels.max()) + 1
        if labels.max() >= self.classes:
            raise IncompatibleError(
                f"target: the estimator knows class {labels.max()}, the data has {self.classes} classes"
            )

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """As in `Target`."""
        flat = features.reshape(len(features), -1)
        probabilities = np.zeros((len(features), self.classes))
        probabilities[:, self.labels] = self.estimator.predict_proba(flat)
        return _log(probabilities)


class CallableTarget:
    """Any function from features (records, ...) to class probabilities (records, classes)."""

    def __init__(self, predict: Callable[[NDArray[Any]], Any]) -> None:
        self.predict = predict

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """As in `Target`. Raises `IncompatibleError` when the answers are not probabilities of these records."""
        parts = [np.asarray(self.predict(features[i : i + CHUNK])) for i in range(0, len(features), CHUNK)]
        probabilities = np.concatenate(parts).astype(np.float64)
        if probabilities.ndim != 2 or len(probabilities) != len(features):
            raise IncompatibleError(
                f"target: the callable returned shape {probabilities.shape} for {len(features)} records; it must "
                "return (records, classes)"
            )
        return _log(probabilities)


def load_target(
    *,
    data: Rows,
    device: str,
    path: str | None = None,
    builder: str | None = None,
    model: str | None = None,
    huggingface: str | None = None,
    revision: str | None = None,
    estimator: str | None = None,
    predict: str | None = None,
    url: str | None = None,
) -> Target:
    """The existing model that `[target]` of a configuration describes; `data` gives input shape and classes."""
    if path is not None:
        name = builder or model
        if name is None:
            raise ConfigError("target.path (safetensors weights) needs builder = 'module:attr' or model = 'mlp'")
        shape = data.features.shape[1:]
        return load_torch_target(Path(path), ModelSpec(name), shape, data.classes, device=device)
    if huggingface is not None:
        return load_huggingface_target(huggingface, revision=revision, device=device)
    if estimator is not None:
        return EstimatorTarget(load_estimator(estimator), data.classes)
    if predict is not None:
        return CallableTarget(load_attribute(predict, "target.predict"))
    if url is not None:
        from .endpoint import EndpointTarget

        return EndpointTarget(url)
    raise ConfigError("target: give one of path, huggingface, estimator, predict, url")


def load_torch_target(
    path: Path, builder: str | ModelSpec, input_shape: tuple[int, ...], classes: int, *, device: str
) -> TorchTarget:
    """Safetensors weights in the architecture `builder`: "module:attr", a built-in name, or a `ModelSpec`."""
    from .persistence import load_weights

    if not path.is_file():
        raise ConfigError(f"target.path: no file {path}")
    spec = ModelSpec(builder) if isinstance(builder, str) else builder
    module = build_model(spec, input_shape, classes, seeds=Seeds(0))
    load_weights(module, path)
    return TorchTarget(module, device)


def load_estimator(path: str) -> Any:
    """The estimator at `module:attr`; a function is called without arguments and must return a fitted estimator."""
    found = load_attribute(path, "target.estimator")
    return found if hasattr(found, "predict_proba") or not callable(found) else found()


def load_huggingface_target(source: str, *, revision: str | None = None, device: str) -> TorchTarget:
    """A sequence or image classifier from a local folder, or by name at a pinned revision. Never runs its code.

    Features are token ids (records, length), padding included, or pixel values (records, channels, height, width).
    """
    from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

    local = Path(source).is_dir()
    if not local and revision is None:
        raise ConfigError(
            f"target.huggingface = {source!r} needs revision (a commit), so that the audit names one model"
        )
    options: dict[str, Any] = {"revision": revision, "local_files_only": local, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        kinds = {
            "SequenceClassification": AutoModelForSequenceClassification,
            "ImageClassification": AutoModelForImageClassification,
        }
        architecture = (config.architectures or ["none"])[0]
        kind = next((auto for ending, auto in kinds.items() if architecture.endswith(ending)), None)
        if kind is None:
            raise IncompatibleError(f"target.huggingface: {architecture} is no sequence or image classifier")
        module = kind.from_pretrained(source, use_safetensors=True, **options)
    except (OSError, ValueError) as error:
        raise PrerequisiteError(
            f"target.huggingface: {source!r} cannot be loaded: {' '.join(str(error).split())[:300]}"
        ) from None
    return (
        _SequenceTarget(module, device)
        if architecture.endswith("SequenceClassification")
        else TorchTarget(module, device)
    )


class _SequenceTarget(TorchTarget):
    """Adds the attention mask that follows from the padding token."""

    def _logits(self, features: Tensor) -> Tensor:
        padding = getattr(self.module.config, "pad_token_id", None)
        mask = None if padding is None else (features != padding).long()
        return _as_logits(self.module(input_ids=features, attention_mask=mask), len(features))


def _as_logits(answer: Any, records: int) -> Tensor:
    import torch

    logits = getattr(answer, "logits", answer)
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or len(logits) != records:
        seen = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise IncompatibleError(
            f"target: the model returned {seen} for {records} records; it must return (records, classes)"
        )
    return logits.float()


def _log(probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
    """Logarithm of rows that are probabilities; `IncompatibleError` for rows that are not."""
    sums = probabilities.sum(axis=1)
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all() and np.allclose(sums, 1, atol=1e-3)):
        worst = sums[np.argmax(np.abs(sums - 1))] if np.isfinite(sums).all() else float("nan")
        raise IncompatibleError(
            f"target: answers are not probabilities (a row sums to {worst:g}); return predict_proba"
        )
    return np.log(np.maximum(probabilities, FLOOR)).astype(np.float32)
