"""A world of cartoon dogs, small enough that models of it are trained in minutes on a CPU."""
