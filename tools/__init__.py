"""What the project needs to describe itself; no part of any distribution."""
