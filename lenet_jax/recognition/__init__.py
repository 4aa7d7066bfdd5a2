"""A trained network at work on images and on a user's own pictures."""
