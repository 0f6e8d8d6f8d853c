"""`python -m fairtest` is the command `fairtest`."""

from __future__ import annotations

import sys

from fairtest.commands import main

if __name__ == "__main__":
    sys.exit(main())
