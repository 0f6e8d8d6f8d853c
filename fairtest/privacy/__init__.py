"""Accounting, and the statement that makes an epsilon mean something."""
