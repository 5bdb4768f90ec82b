"""Suites and comparisons: the audits, defects, peers and speeds that LeakGauge measures itself by."""
