"""Federated learning: clients, server, threat models, secure aggregation."""
