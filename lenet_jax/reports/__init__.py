"""The pages and figures made from records."""
