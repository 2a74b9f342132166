"""Ways to decide who is granted, one file a method, and the registry of their names."""
