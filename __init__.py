"""LeakGauge: trains models under a privacy promise, attacks them, and certifies how much they leak."""

__version__ = "0.1.0"
