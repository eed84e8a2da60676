"""Open models: where they come from and how they are talked to."""
