"""Pictures and findings about a network or a run."""
