"""MNIST's frame."""

SHAPE = (28, 28)  # also that of a card or a run which says no other
