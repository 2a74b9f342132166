"""Ways to assign users to several servers and models, one file a method, and the proof of how good a plan is."""
