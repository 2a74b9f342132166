"""`edgesplit`."""
