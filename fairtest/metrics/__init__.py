"""Metric definitions: item scores to a number with a target and a protocol."""
