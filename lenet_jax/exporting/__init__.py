"""Trained networks as files for other programs. A format is a module with `write` and `read`."""
