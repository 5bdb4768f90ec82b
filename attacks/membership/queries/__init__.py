"""Questions put to every model about every record, beyond its log-probabilities on the records themselves."""

from .augmented import Augmented, Votes
from .boundary import BoundaryDistance
from .gradients import GradientNorms
from .trajectory import Trajectory

__all__ = ["Augmented", "BoundaryDistance", "GradientNorms", "Trajectory", "Votes"]
