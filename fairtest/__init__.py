"""Fairness and privacy gates for language model fine-tuning."""
