"""What networks are worth: counts, errors, rejection, robustness, records."""
