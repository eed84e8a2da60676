"""Plugins: what they may implement, how they are found, guarded and called."""
