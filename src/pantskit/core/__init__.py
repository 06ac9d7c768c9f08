"""The vocabulary every stage shares: geometry, volumes, labels, datasets, records, runs."""
