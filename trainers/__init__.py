"""Rows to model, claim and transcript. Trainers are reached by name through `audit.registry`."""
