"""Training of policies, where torch and gymnasium are needed: the MDP as environments, networks, PER-DQN, trainings."""
