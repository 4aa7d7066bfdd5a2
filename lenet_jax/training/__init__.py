"""Everything between a configuration and a trained network."""
