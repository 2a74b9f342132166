"""What all exhibits are made from: numbers and policies, scoring, checks, the look of figures, what an exhibit is."""
