"""A content-addressed, atomic, lockable store of what was trained and scored."""
