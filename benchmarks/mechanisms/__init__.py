"""Mechanisms of known privacy, right and wrong, each with the neighbouring data sets on which it leaks most."""

from __future__ import annotations
