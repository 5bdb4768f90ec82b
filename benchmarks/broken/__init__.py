"""Deliberately broken DP trainers and aggregators, and the suite that must catch all of them."""
