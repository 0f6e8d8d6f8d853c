"""Comparison to verdict, and the assertions built on it."""
