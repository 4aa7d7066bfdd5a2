"""How the sums of the layers are computed, where processors want what section II does not say."""
