"""The paper's system model: the QoE of a plan, the split point, one function for every equation."""
