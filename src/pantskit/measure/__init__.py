"""Numbers from arrays: overlap, surfaces, components, statistics. No files."""
