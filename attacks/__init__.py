"""Evidence to scores: attacks on models. An attack never judges itself and never sees the target's membership."""
