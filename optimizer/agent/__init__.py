"""Trained policies at work, in NumPy: what they see, how they decide, how well they score."""
