"""Reconstruction of token sequences from the gradients of transformers."""
