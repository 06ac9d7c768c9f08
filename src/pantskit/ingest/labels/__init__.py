"""Annotations of a CT, whatever they are stored in, as masks on its grid."""
