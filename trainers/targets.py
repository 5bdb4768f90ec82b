"""Models as an attacker's queries see them: torch modules, scikit-learn estimators, callables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..audit.errors import ConfigError, IncompatibleError
from ..audit.registry import load_attribute
from ..audit.seeds import Seeds
from ..audit.types import Rows, Target
from .models import ModelSpec, build_model
from .tensors import CHUNK, feature_tensor

if TYPE_CHECKING:
    from torch import Tensor, nn

FLOOR = 1e-30
"""Probabilities given by others are raised to this before the logarithm: a zero would score minus infinity."""
PROBED = 8
"""Records with which a torch module is tried before it is believed."""


class TorchTarget:
    """A torch module that maps features to logits (records, classes), or to an object with `.logits`.

    Every query runs in evaluation mode, whatever mode the module is in, and leaves the mode as it was: dropout or batch
    statistics during queries would make signals random or let records of one query influence each other. The first
    query checks that neither happens all the same.
    """

    def __init__(self, module: nn.Module, device: str) -> None:
        self.module, self.device = module.to(device), device
        self._believed = False

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """As in `Target`. Raises `IncompatibleError` when the module does not give logits, gives different answers to
        one question, or lets one record's answer depend on the others asked with it."""
        import torch

        dtype = next((p.dtype for p in self.module.parameters() if p.is_floating_point()), torch.float32)
        tensor = feature_tensor(features, dtype=dtype, device=self.device)
        with torch.inference_mode(), evaluating(self.module):
            if not self._believed and len(tensor):
                self._probe(tensor[:PROBED])
            parts = [torch.log_softmax(self._logits(part), dim=1).cpu().numpy() for part in torch.split(tensor, CHUNK)]
        return np.concatenate(parts)

    def _probe(self, few: Tensor) -> None:
        once, again, alone = self._logits(few), self._logits(few), self._logits(few[:1])
        # Well above the rounding of other batch sizes, well below what dropout or batch statistics do.
        slack = 1e-3 * float(once.abs().max().clamp(min=1.0).nan_to_num(1.0))
        if not once.allclose(again, atol=slack, rtol=0.0, equal_nan=True):
            raise IncompatibleError(
                "target: the model gave different answers to the same records in evaluation mode: it draws random "
                "numbers in forward (such as functional dropout without training=self.training); make it deterministic"
            )
        if not once[:1].allclose(alone, atol=slack, rtol=0.0, equal_nan=True):
            raise IncompatibleError(
                "target: the model's answer to a record changes with the others in the batch, in evaluation mode "
                "(batch statistics?); make each answer depend on its own record only"
            )
        self._believed = True

    def _logits(self, features: Tensor) -> Tensor:
        return as_logits(self.module(features), len(features))


class EstimatorTarget:
    """A fitted scikit-learn classifier: `predict_proba` on features flattened to (records, columns).

    Columns follow `classes_`, which must be whole numbers, the labels of the audit; with `classes` given, classes that
    the estimator never saw get probability 0. With `labels_only`, `predict` is asked and answers are one-hot.
    """

    def __init__(self, estimator: Any, classes: int | None = None, *, labels_only: bool = False) -> None:
        if not labels_only and not hasattr(estimator, "predict_proba"):
            raise IncompatibleError(
                f"target: {type(estimator).__name__} has no predict_proba; an audit needs class probabilities, or "
                "labels_only = true with access = ['labels']"
            )
        labels = np.asarray(getattr(estimator, "classes_", ()))
        if not len(labels):
            raise IncompatibleError(f"target: {type(estimator).__name__} is not fitted")
        if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
            raise IncompatibleError(
                f"target: classes of the estimator must be integers from 0, got {labels[:5].tolist()}"
            )
        self.estimator, self.labels, self.labels_only = estimator, labels, labels_only
        self.classes = classes or int(labels.max()) + 1
        if labels.max() >= self.classes:
            raise IncompatibleError(
                f"target: the estimator knows class {labels.max()}, the data has {self.classes} classes"
            )

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """As in `Target`."""
        flat = features.reshape(len(features), -1)
        if self.labels_only:
            return log_of(one_hot(self.estimator.predict(flat), len(features), self.classes))
        probabilities = np.zeros((len(features), self.classes))
        probabilities[:, self.labels] = self.estimator.predict_proba(flat)
        return log_of(probabilities)


class CallableTarget:
    """Any function from features (records, ...) to class probabilities (records, classes).

    With `labels_only` the function returns labels (records,) in [0, `classes`), and answers are one-hot.
    """

    def __init__(
        self, predict: Callable[[NDArray[Any]], Any], classes: int | None = None, *, labels_only: bool = False
    ) -> None:
        if labels_only and not classes:
            raise ConfigError("target: labels_only needs the number of classes")
        self.predict, self.classes, self.labels_only = predict, classes, labels_only

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """As in `Target`. Raises `IncompatibleError` when the answers are not probabilities, or labels, of these
        records."""
        return np.concatenate(
            [self._part(features[i : i + CHUNK]) for i in range(0, max(1, len(features)), CHUNK)], dtype=np.float32
        )

    def _part(self, features: NDArray[Any]) -> NDArray[np.float32]:
        answers = np.asarray(self.predict(features))
        if self.labels_only:
            return log_of(one_hot(answers, len(features), self.classes or 0))
        if answers.ndim != 2 or len(answers) != len(features):
            raise IncompatibleError(
                f"target: the callable returned shape {answers.shape} for {len(features)} records; it must "
                "return (records, classes)"
            )
        return log_of(answers.astype(np.float64))


def load_target(
    *,
    data: Rows,
    device: str,
    folder: Path | None = None,
    path: str | None = None,
    builder: str | None = None,
    model: str | None = None,
    huggingface: str | None = None,
    revision: str | None = None,
    tokenize: bool = False,
    estimator: str | None = None,
    predict: str | None = None,
    url: str | None = None,
    labels_only: bool = False,
    **service: Any,
) -> Target:
    """The existing model that `[target]` of a configuration describes; `data` gives input shape and classes.

    `folder` keeps the answers of a service (`url`, or a metered `predict`); `service` are the fields of `Service`.
    """
    if path is not None:
        name = builder or model
        if name is None:
            raise ConfigError("target.path (safetensors weights) needs builder = 'module:attr' or model = 'mlp'")
        shape = data.features.shape[1:]
        return load_torch_target(Path(path), ModelSpec(name), shape, data.classes, device=device)
    if huggingface is not None:
        from .huggingface import load_huggingface_target

        length = data.features.shape[1] if data.features.ndim == 2 else None
        return load_huggingface_target(
            huggingface, revision=revision, device=device, tokenize=tokenize, text_length=length
        )
    if estimator is not None:
        return EstimatorTarget(load_estimator(estimator), data.classes, labels_only=labels_only)
    if predict is not None:
        ask = load_attribute(predict, "target.predict")
        return _served(ask, f"predict {predict}", data, folder, labels_only, service, remembered=bool(service))
    if url is not None:
        from .endpoint import Endpoint

        return _served(Endpoint.of(url, labels_only, service), f"url {url}", data, folder, labels_only, service)
    raise ConfigError("target: give one of path, huggingface, estimator, predict, url")


def _served(
    ask: Callable[[NDArray[Any]], Any],
    name: str,
    data: Rows,
    folder: Path | None,
    labels_only: bool,
    options: Mapping[str, Any],
    *,
    remembered: bool = True,
) -> CallableTarget:
    """`ask` behind the rate limit and the memory that the configuration wants."""
    from .service import Service

    service = Service.of(name, labels_only, folder if options.get("cache", remembered) else None, options)
    return CallableTarget(service.calls(ask), data.classes, labels_only=labels_only)


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
    return found if hasattr(found, "predict") or not callable(found) else found()


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Within the block `module` and all its parts are in evaluation mode; after it each is in the mode it was in."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in before:
            part.training = mode


def as_logits(answer: Any, records: int) -> Tensor:
    """Logits (records, classes) from what a module returned. Raises `IncompatibleError` for anything else."""
    import torch

    logits = getattr(answer, "logits", answer)
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or len(logits) != records:
        seen = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise IncompatibleError(
            f"target: the model returned {seen} for {records} records; it must return (records, classes)"
        )
    return logits.float()


def one_hot(labels: Any, records: int, classes: int) -> NDArray[np.float64]:
    """Labels as probabilities (records, classes) of 0 and 1. `IncompatibleError` for what are no labels."""
    given = np.asarray(labels)
    whole = given.shape == (records,) and given.dtype.kind in "iuf" and bool((given == np.floor(given)).all())
    if not whole or (records and not (given.min() >= 0 and given.max() < classes)):
        seen = f"shape {given.shape}" if given.shape != (records,) else f"{given[:5].tolist()}"
        raise IncompatibleError(
            f"target: answers are not labels, got {seen} for {records} records; return one whole number in "
            f"[0, {classes}) a record"
        )
    return np.asarray(given[:, None] == np.arange(classes), dtype=np.float64)


def log_of(probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
    """Logarithm of rows that are probabilities; `IncompatibleError` for rows that are not."""
    sums = probabilities.sum(axis=1)
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all() and np.allclose(sums, 1, atol=1e-3)):
        worst = sums[np.argmax(np.abs(sums - 1))] if np.isfinite(sums).all() else float("nan")
        raise IncompatibleError(
            f"target: answers are not probabilities (a row sums to {worst:g}); return predict_proba"
        )
    return np.log(np.maximum(probabilities, FLOOR)).astype(np.float32)
