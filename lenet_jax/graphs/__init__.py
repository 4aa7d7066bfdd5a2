"""Graph transformers (section IV): automata of strings, and paths through graphs of scores."""
