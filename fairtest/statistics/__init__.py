"""Intervals over seeds and clusters."""
