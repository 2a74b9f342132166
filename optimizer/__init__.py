"""Who offloads, and how many steps: the system model, the split point, the exact optimum, `plan`."""
