"""Attacks on what federated training shows: updates, sums, global models."""
