"""DreamBooth cohorts: how the cluster-wide model and every user's personal model are trained and judged."""
