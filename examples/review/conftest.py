"""Has the models made that a reviewer would be sent, if they are not there."""

import make_checkpoints
import pytest


@pytest.fixture(autouse=True, scope="session")
def received():
    if not make_checkpoints.RECEIVED.exists():
        make_checkpoints.main()
