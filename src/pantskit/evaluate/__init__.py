"""Scores of predictions against reference labels: case by case, and over all cases."""
