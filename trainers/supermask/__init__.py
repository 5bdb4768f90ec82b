"""Supermasks: a mask is learned over frozen weights, and only the mask is shared."""
