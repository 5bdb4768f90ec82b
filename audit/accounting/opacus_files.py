"""Opacus's PRV and RDP arithmetic as cross-checks of the PLD, from Opacus's own files but without torch."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import math
import sys
import types
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PrerequisiteError

EPSILON_ERROR = 0.01
"""Opacus's default: the upper bound lies this much above its own estimate."""

_LARGEST_GRID = 20_000_000
_ORDERS = [*(1 + tenth / 10 for tenth in range(1, 100)), *range(12, 64)]
_ROOT = "_leakgauge_opacus"


def prv_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """PRV (Gopi, Lee, Wutschitz 2021, arXiv 2106.02848): an upper bound on the remove direction's epsilon.

    It lies `EPSILON_ERROR` above the estimate.

    Raises `ValueError` or `RuntimeError` where the discretisation fails (Opacus issues 601, 604, 637) and
    `PrerequisiteError` where Opacus is not installed.
    """
    prv = load_prv()
    law = prv.PoissonSubsampledGaussianPRV(sample_rate, noise_multiplier)
    delta_error = delta / 1000
    with _quiet():
        half_width = prv.compute_safe_domain_size([law], [steps], EPSILON_ERROR, delta_error)
        mesh = EPSILON_ERROR / math.sqrt(steps * math.log(12 / delta_error) / 2)
        if not 2 * half_width / mesh < _LARGEST_GRID:
            raise ValueError(f"the grid would need {2 * half_width / mesh:.2g} points")
        domain = prv.Domain.create_aligned(-half_width, half_width, mesh)
        step = prv.discretize(prv.TruncatedPrivacyRandomVariable(law, domain.t_min, domain.t_max), domain)
        composed = prv.compose_heterogeneous([step], [steps])
        _, _, upper = composed.compute_epsilon(delta, delta_error, EPSILON_ERROR)
    if not math.isfinite(upper) or upper < 0:
        raise ValueError(f"no finite epsilon came out ({upper})")
    return float(upper)


def rdp_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """RDP (Mironov, Talwar, Zhang 2019, arXiv 1908.10530) over Opacus's orders, 1.1 to 10.9 by tenths and 12 to 63.

    Raises as `prv_epsilon` does.
    """
    load_prv()
    rdp = sys.modules[f"{_ROOT}.analysis.rdp"]
    with _quiet():
        spent = rdp.compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=steps, orders=_ORDERS)
        epsilon, _ = rdp.get_privacy_spent(orders=_ORDERS, rdp=spent, delta=delta)
    if not math.isfinite(epsilon):
        raise ValueError(f"no finite epsilon came out ({epsilon})")
    return float(epsilon)


@lru_cache(maxsize=1)
def load_prv() -> Any:
    """Opacus's subpackage `accountants.analysis.prv`, under a private name.

    `import opacus` imports torch (2 s and 300 MB), and so does its RDP accountant's base class, which the PRV files
    reach through `...rdp`. The arithmetic needs numpy and scipy only. So the files are loaded by their place on disk
    into a package of our own, in which the base class is a plain holder of the history.
    """
    spec = importlib.util.find_spec("opacus")
    if spec is None or not spec.submodule_search_locations:
        raise PrerequisiteError("the PRV cross-check needs the package 'opacus': pip install opacus")
    accountants = Path(next(iter(spec.submodule_search_locations))) / "accountants"
    _package(_ROOT, accountants)
    _package(f"{_ROOT}.analysis", accountants / "analysis")
    base = types.ModuleType(f"{_ROOT}.accountant")
    base.__dict__["IAccountant"] = _History
    sys.modules[base.__name__] = base
    return importlib.import_module(f"{_ROOT}.analysis.prv")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No floating-point or "expand the range of orders" warnings: the callers check what comes out."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _History:
    """What Opacus's `IAccountant` does besides abstract methods: an empty history of (noise, rate, steps)."""

    def __init__(self) -> None:
        self.history: list[tuple[float, float, int]] = []


def _package(name: str, folder: Path) -> None:
    """Register an empty package whose submodules are looked up in `folder`; the folder's `__init__` is not run."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    sys.modules[name] = module
