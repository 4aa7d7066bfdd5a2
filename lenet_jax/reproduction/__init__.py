"""The sets of experiments that are reproduced, and how each kind of system is measured."""
