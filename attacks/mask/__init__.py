"""Attacks on shared masks: membership from the bits alone, and images from score updates, sampled bits and flips."""
