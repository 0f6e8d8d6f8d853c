"""One JSON result, rendered for people."""

from fairtest.reports.document import build_document, dump, finite, write_text

__all__ = ["build_document", "dump", "finite", "write_text"]
