"""What a run came to, for readers: pages without scripts or network, and trackers."""
