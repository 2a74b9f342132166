"""DreamBooth cohorts: the cluster-wide model and every user's personal one."""
