"""Tasks written for other frameworks, as problems: what a folder says, and how its evaluator is run."""
