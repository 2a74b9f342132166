"""Training of policies that price rounds, where torch and gymnasium are needed: twin, learners, judging."""
