"""The regression gate: baselines of several seeds, comparison of a run with one, and trends over many."""

from .baseline import LEAST_SEEDS, Baseline, read_baseline, write_baseline
from .build import build_baseline, read_run
from .compare import CONFIDENCE, Comparison, Row, compare_run
from .measured import Measured
from .trend import Trend, TrendPoint, TrendSeries, read_trend

__all__ = [
    "CONFIDENCE",
    "LEAST_SEEDS",
    "Baseline",
    "Comparison",
    "Measured",
    "Row",
    "Trend",
    "TrendPoint",
    "TrendSeries",
    "build_baseline",
    "compare_run",
    "read_baseline",
    "read_run",
    "read_trend",
    "write_baseline",
]
