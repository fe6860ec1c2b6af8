"""minicomp."""
