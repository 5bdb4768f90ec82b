"""Mechanisms of installed privacy libraries as audit targets: OpenDP and diffprivlib (extra `mechanisms`)."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...audit.errors import PrerequisiteError


@dataclass(frozen=True, slots=True)
class OpenDpCount:
    """OpenDP's Laplace (or, for integers, discrete Laplace) mechanism on a sum of rows in {0, 1}; add-remove.

    OpenDP draws from its own cryptographic source, so `rng` is unused and runs cannot be repeated bit by bit.
    """

    epsilon: float = 1.0
    integer: bool = True
    _measure: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        opendp = _import("opendp.prelude")
        opendp.enable_features("contrib")
        kind = int if self.integer else float
        domain = opendp.atom_domain(T=int) if self.integer else opendp.atom_domain(T=float, nan=False)
        measure = opendp.m.make_laplace(domain, opendp.absolute_distance(T=kind), scale=1 / self.epsilon)
        object.__setattr__(self, "_measure", measure)

    def __call__(self, dataset: Sequence[int], rng: np.random.Generator) -> float:  # noqa: ARG002
        """A noisy count."""
        return float(self._measure(sum(dataset) if self.integer else float(sum(dataset))))

    def promised_epsilon(self) -> float:
        """What OpenDP itself says about sensitivity 1."""
        return float(self._measure.map(1 if self.integer else 1.0))


@dataclass(frozen=True, slots=True)
class DiffprivlibMechanism:
    """One of diffprivlib's mechanisms by class name, on the sum of the rows; sensitivity 1, add-remove.

    `arguments` are further constructor arguments, such as `lower` and `upper` of `LaplaceTruncated`.
    """

    name: str = "Laplace"
    epsilon: float = 1.0
    arguments: tuple[tuple[str, float], ...] = ()

    def __call__(self, dataset: Sequence[int], rng: np.random.Generator) -> float:
        """A noisy count; the library takes its randomness from an integer drawn from `rng`."""
        made = getattr(diffprivlib_mechanisms(), self.name)(
            epsilon=self.epsilon, sensitivity=1, random_state=int(rng.integers(2**31)), **dict(self.arguments)
        )
        total = sum(dataset)
        return float(made.randomise(int(total) if self.name.startswith("Geometric") else float(total)))


def diffprivlib_mechanisms() -> types.ModuleType:
    """`diffprivlib.mechanisms`, also where the rest of the package fails to import.

    diffprivlib 0.6.6 imports its models first, which need a private name that scikit-learn 1.9 no longer has. The
    mechanisms do not, so they are imported below an empty parent package of the same name and place.
    """
    try:
        return importlib.import_module("diffprivlib.mechanisms")
    except ModuleNotFoundError as error:
        raise PrerequisiteError("this mechanism needs the package 'diffprivlib': pip install diffprivlib") from error
    except ImportError:
        spec = importlib.util.find_spec("diffprivlib")
        if spec is None or not spec.submodule_search_locations:
            raise
        parent = types.ModuleType("diffprivlib")
        parent.__path__ = list(spec.submodule_search_locations)
        parent.__spec__ = importlib.machinery.ModuleSpec("diffprivlib", None, is_package=True)
        sys.modules["diffprivlib"] = parent
        return importlib.import_module("diffprivlib.mechanisms")


def _import(name: str) -> Any:
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PrerequisiteError(f"this mechanism needs the package {package!r}: pip install {package}") from error
