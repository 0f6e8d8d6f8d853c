"""Stored baselines: one file a model in the user's repository, its entries, and who writes them."""
