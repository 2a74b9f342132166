"""Curves and their fits: step latency L(b) = k b + h, and the Personalised Accuracy Index F(n)."""
