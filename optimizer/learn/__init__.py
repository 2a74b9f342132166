"""Training of policies: the environment, the networks, PER-DQN. Needs torch and gymnasium."""
