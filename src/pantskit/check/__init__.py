"""Findings: what is wrong or odd in a dataset, case by case, nothing repaired."""
