"""One file for each exhibit of the paper: its random cases, its table, its drawing and its verdict together."""
