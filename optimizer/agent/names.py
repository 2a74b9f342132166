"""Names that options, cards and presets share. Importing them costs nothing, so that help stays quick."""

from typing import Literal

NetworkName = Literal["flat", "set"]
"""Q-networks: "flat" is the paper's, with a fixed number of places for users; "set" is ours, for any number of them."""
Scope = Literal["general", "gpu", "specific"]
"""Rounds that a policy is trained for, Fig. 8 of the paper: any number of GPUs, one number of GPUs, or one round."""
OrderName = Literal["file", "random", "slowest", "mixed"]
"""Orders in which an agent takes the users of a round, `order_of`."""
DENY, GRANT = 0, 1
"""The actions, which are also the columns of Q."""
