"""The reference LeNet-5: the 1998 network exactly as published, in JAX and Flax."""

__version__ = "0.1.0"
