"""The framework doctor: DP aggregations of released packages under crafted clients, `leakgauge bench frameworks`."""
