"""The archive of states, and where the next groups start; arithmetic only."""
