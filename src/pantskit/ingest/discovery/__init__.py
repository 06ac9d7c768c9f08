"""What the sources hold: files, archives, series, and which of them to take."""
