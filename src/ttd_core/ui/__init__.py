"""``ttd ui``: a local page over a folder of runs, which it reads as the report does."""
