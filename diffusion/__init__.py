"""Hybrid inference: the denoising step that the edge, the device and the profiler execute."""
