"""Models and hybrid inference: the step, the batch engine, the hand-off between edge and device."""
