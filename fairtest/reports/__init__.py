"""One JSON result, rendered for people."""
