"""Images and labels, with where they came from. Imports no other room."""
