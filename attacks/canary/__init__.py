"""Records made to be memorised, and the attacks that look for them."""

from .mislabelled import MislabelledCanary, make_canaries

__all__ = ["MislabelledCanary", "make_canaries"]
