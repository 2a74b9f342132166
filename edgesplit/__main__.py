"""`python -m edgesplit`."""

from .cli import main

main()
