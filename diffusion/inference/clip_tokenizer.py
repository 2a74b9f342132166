"""CLIP's tokenizer, made of the vocabulary that ships with OpenCLIP: all published CLIPs have the same."""

from typing import Any

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 77
"""Tokens of a prompt."""


def clip_tokenizer(pad_token: str) -> Any:
    """The tokenizer of every published CLIP text encoder.

    Args:
        pad_token: word that fills prompts up, in which CLIPs differ.
    """
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    known = SimpleTokenizer()
    words = list(known.encoder)[:-2]  # begin and end have other names there
    vocabulary = {word: number for number, word in enumerate([*words, BEGIN, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=list(known.bpe_ranks), pad_token=pad_token, model_max_length=TOKENS)
