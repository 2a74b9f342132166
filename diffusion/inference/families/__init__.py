"""Families of models: each module knows how one kind takes its prompt, its step and its latents.

Everything else knows families only by the interface of `base.Model`. Nothing here imports torch before a model runs, so
that what a folder holds can be told at once.
"""
