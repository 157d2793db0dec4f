"""Segmentation networks that return logits and decoder features."""
