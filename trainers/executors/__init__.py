"""Where blocks of models train: `local`, the cores of this machine, or `ray`, a cluster. Their results are the same."""

from .cluster import RayExecutor
from .local import LocalExecutor

__all__ = ["LocalExecutor", "RayExecutor"]
