"""Networks: one of a kind in each file, its fields in the module."""
