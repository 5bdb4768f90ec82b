"""Checks of third-party plug-ins against the contracts of `audit.types`; `audit.testing` is the way in."""
