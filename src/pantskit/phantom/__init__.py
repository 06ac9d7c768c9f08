"""Synthetic patients whose truth is known, and CTs painted from label maps."""
