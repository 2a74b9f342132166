"""Personalisation against the split point: CLIP, LPIPS and the Personalised Accuracy Index."""
