"""What section II says, readable as it."""
