"""Privacy accounting: what epsilon a training record supports, before anything is attacked. Imports no torch.

PLD (privacy loss distributions) comes first, Opacus's PRV and RDP check it, the CLT-GDP figure is shown and never used.
"""

from __future__ import annotations

from .accounts import Accounts, account_dp_sgd
from .calibration import calibrate_noise
from .claims import cross_check, dp_sgd_claim, group_claim, group_epsilon, require_comparable
from .curves import PrivacyCurve, dp_sgd_curve, group_curve

__all__ = [
    "Accounts",
    "PrivacyCurve",
    "account_dp_sgd",
    "calibrate_noise",
    "cross_check",
    "dp_sgd_claim",
    "dp_sgd_curve",
    "group_claim",
    "group_curve",
    "group_epsilon",
    "require_comparable",
]
