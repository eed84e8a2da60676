"""The plain engine: transformers' own code, any model on any device; a group's prompt is stored once."""
