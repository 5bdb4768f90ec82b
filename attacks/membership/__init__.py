"""Was this record in the training data? Attacks on records of one target model."""

from .confidence import Confidence
from .difficulty import DifficultyCalibration
from .entropy import Entropy
from .gap import Gap
from .gradient_norm import GradientNorm
from .label_only import LabelOnlyAugment, LabelOnlyBoundary
from .lira import Lira
from .loss import LossThreshold
from .meta import MetaAttack
from .modified_entropy import ModifiedEntropy
from .population import PopulationAttack
from .quantile import Quantile
from .rmia import Rmia
from .shadow_classifier import ShadowClassifier
from .trajectory import LossTrajectory
from .whitebox import WhiteBox

__all__ = [
    "Confidence",
    "DifficultyCalibration",
    "Entropy",
    "Gap",
    "GradientNorm",
    "LabelOnlyAugment",
    "LabelOnlyBoundary",
    "Lira",
    "LossThreshold",
    "LossTrajectory",
    "MetaAttack",
    "ModifiedEntropy",
    "PopulationAttack",
    "Quantile",
    "Rmia",
    "ShadowClassifier",
    "WhiteBox",
]
