"""Learning: from the rewards of a step's groups to one policy-gradient step."""
