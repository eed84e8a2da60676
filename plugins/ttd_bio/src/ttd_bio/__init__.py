"""Single-cell denoising on real counts for ttd."""
