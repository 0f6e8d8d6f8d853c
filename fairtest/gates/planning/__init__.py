"""Plans: what every gate could find, before anything is trained."""
