"""White-box audits of real Opacus training: gradient canaries by fair coins, and the transcript of what was released.

`train_with_canaries` audits our own DP-SGD. For your own loop and `PrivacyEngine`: wrap model, loss and data set with
`CanaryModel`, `CanaryLoss` and `CanaryDataset`, make them private, and attach a `Recorder` to the optimizer.
"""

from __future__ import annotations

from .canaries import GradientCanaries, slot_numbers
from .initial import saturate
from .module import CanaryDataset, CanaryLoss, CanaryModel
from .recorder import Recorder, Statistic, Transcript, opacus_unit
from .training import CanaryRun, train_with_canaries

__all__ = [
    "CanaryDataset",
    "CanaryLoss",
    "CanaryModel",
    "CanaryRun",
    "GradientCanaries",
    "Recorder",
    "Statistic",
    "Transcript",
    "opacus_unit",
    "saturate",
    "slot_numbers",
    "train_with_canaries",
]
