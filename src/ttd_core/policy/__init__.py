"""Policies: where completions come from. Each backend is an adapter that imports what it needs on use."""
