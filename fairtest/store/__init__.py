"""A content-addressed, atomic, lockable store of what was trained and scored."""

from fairtest.store.store import Entry, Store

__all__ = ["Entry", "Store"]
