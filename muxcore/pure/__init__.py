"""The reference implementations: one file a model, in plain Python."""
