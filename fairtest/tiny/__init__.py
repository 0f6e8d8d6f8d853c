"""The embedded model, its generator of records, and their known truth."""
