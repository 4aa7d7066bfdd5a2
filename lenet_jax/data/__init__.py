"""Images and labels, with where they came from."""
