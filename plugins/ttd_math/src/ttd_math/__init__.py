"""Open problems in mathematics for ttd: Erdős' minimum overlap, autocorrelation inequalities, circle packing."""
