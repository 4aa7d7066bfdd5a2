"""What is inside a network."""
