"""Runs inside the peers' own environment: numpy and the peers only, nothing of LeakGauge (see `..exchange`)."""
