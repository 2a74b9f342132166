"""What a plan is made from: the scenario file and the users file, checked."""
