"""Reconstruction of training records from what a training step releases."""
