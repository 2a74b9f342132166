"""The system over time: rounds that overlap, their scheduler, and a simulator on a virtual clock."""
