"""Readers of bias benchmarks, and our own templates."""
