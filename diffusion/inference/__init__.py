"""Models and the split denoising run: the step, the batch engine, the hand-off."""
