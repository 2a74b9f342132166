"""`python -m edgesplit`."""

from .start import edgesplit

edgesplit()
