"""The commands: a file each, which parses, calls its stage and reports."""
