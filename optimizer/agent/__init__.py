"""Trained policies at work, in NumPy: what an agent sees, how it decides, and how well its plans score."""
