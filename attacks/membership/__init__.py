"""Was this record in the training data? Attacks on records of one target model."""

from .confidence import Confidence
from .difficulty import DifficultyCalibration
from .entropy import Entropy
from .lira import Lira
from .loss import LossThreshold
from .meta import MetaAttack
from .modified_entropy import ModifiedEntropy
from .population import PopulationAttack
from .rmia import Rmia
from .shadow_classifier import ShadowClassifier

__all__ = [
    "Confidence",
    "DifficultyCalibration",
    "Entropy",
    "Lira",
    "LossThreshold",
    "MetaAttack",
    "ModifiedEntropy",
    "PopulationAttack",
    "Rmia",
    "ShadowClassifier",
]
