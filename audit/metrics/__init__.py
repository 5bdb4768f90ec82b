"""How well scores tell members from non-members, always with an interval and the integer counts behind it."""

from .auc import auc, auc_interval
from .intervals import Interval, accuracy_interval, clopper_pearson
from .membership import MembershipMetrics, membership_metrics
from .record_risk import RecordRisk, record_risk
from .roc import OperatingPoint, RocBand, SplitScores, operating_point, roc_band
from .slices import Slice, SliceReport, worst_slice, worst_slices

__all__ = [
    "Interval",
    "MembershipMetrics",
    "OperatingPoint",
    "RecordRisk",
    "RocBand",
    "Slice",
    "SliceReport",
    "SplitScores",
    "accuracy_interval",
    "auc",
    "auc_interval",
    "clopper_pearson",
    "membership_metrics",
    "operating_point",
    "record_risk",
    "roc_band",
    "worst_slice",
    "worst_slices",
]
