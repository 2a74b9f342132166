"""`hwprof`: a GPU's step latency against batch size, measured."""
