"""Unsupervised training: denoising autoencoders, plain and under DP-SGD."""

from __future__ import annotations

from .trainer import Autoencoder, DpAutoencoder

__all__ = ["Autoencoder", "DpAutoencoder"]
