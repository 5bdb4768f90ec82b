"""Was this record in the training data? Attacks on records of one target model."""

from .lira import Lira
from .loss import LossThreshold
from .rmia import Rmia

__all__ = ["Lira", "LossThreshold", "Rmia"]
