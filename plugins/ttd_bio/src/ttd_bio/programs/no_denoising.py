"""No denoising: the train counts as they are."""


def magic_denoise(X, **kwargs):
    """The counts themselves."""
    return X
