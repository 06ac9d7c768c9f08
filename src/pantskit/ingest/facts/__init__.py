"""What is told of a CT: header words, contrast phase, what is in view, clinical table."""
