"""Executors: where candidate code runs, as jobs that are data, giving back data."""
