"""Experiments: a grid of runs planned in one file, made several at a time, gone on with after a kill."""
