"""Audit files that come with LeakGauge."""
