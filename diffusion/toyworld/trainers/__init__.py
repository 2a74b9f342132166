"""Training of the toy world's models from nothing."""
