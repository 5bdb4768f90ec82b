"""A model behind a URL: JSON in, class probabilities out."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audit.errors import ConfigError, PrerequisiteError
from .targets import CallableTarget


@dataclass(frozen=True, slots=True)
class EndpointTarget:
    """POSTs `{"features": [...]}` (records, ...) to `url` and reads `{"probabilities": [...]}` (records, classes)."""

    url: str
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"target.url must start with http:// or https://, got {self.url!r}")

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """As in `Target`. Raises `PrerequisiteError` when the server does not answer as described."""
        return CallableTarget(self._ask).log_probabilities(features)

    def _ask(self, features: NDArray[Any]) -> NDArray[np.float64]:
        body = json.dumps({"features": features.tolist()}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                return np.asarray(json.load(response)["probabilities"], np.float64)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise PrerequisiteError(
                f'target.url {self.url}: no answer of the form {{"probabilities": [[...]]}} ({reason})'
            ) from None
