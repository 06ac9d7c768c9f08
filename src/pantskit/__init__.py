"""Pancreatic-tumour CT from the scanner to a scored segmentation."""

__version__ = "0.1.0"
