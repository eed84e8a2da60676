"""Open problems in mathematics: Erdős' minimum overlap, autocorrelation inequalities, circle packing."""
