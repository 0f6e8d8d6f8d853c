"""Arms made real: trained or taken from the store, scored or taken from the store."""
