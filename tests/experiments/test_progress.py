from __future__ import annotations

import contextlib
import io

import pytest

from fairtest.experiments.progress import SILENT, Progress


def test_off_a_terminal_a_finished_piece_leaves_one_plain_line():
    stream = io.StringIO()
    with Progress(lambda: stream).work("train dp seed 0", 3) as advance:
        for loss in (3.0, 2.0, 1.0):
            advance(f"loss {loss}")
    text = stream.getvalue()
    assert text.startswith("fairtest: train dp seed 0: ")
    assert text.endswith("s, loss 1.0\n")
    assert text.count("\n") == 1


def test_work_that_was_stopped_says_how_far_it_came():
    stream = io.StringIO()

    def work():
        with Progress(lambda: stream).work("train dp seed 0", 3) as advance:
            advance("loss 3.0")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert "stopped after 1 steps" in stream.getvalue()


def test_minor_work_that_was_quick_leaves_no_line():
    stream = io.StringIO()
    with Progress(lambda: stream).work("score", 3, minor=True) as advance:
        advance(done=3, total=3)
    assert stream.getvalue() == ""


def test_the_stream_is_written_only_inside_its_context():
    inside = []

    @contextlib.contextmanager
    def context():
        inside.append("in")
        yield
        inside.append("out")

    class Stream(io.StringIO):
        def write(self, text):
            assert inside == ["in"]
            return super().write(text)

    with Progress(Stream, context).work("x", 1) as advance:
        advance("done")
    assert inside == ["in", "out"]


def test_silence_is_silent(capsys):
    with SILENT.work("x", 1) as advance:
        advance("note", done=1, total=1)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with Progress(lambda: stream).work("train dp seed 0", 2) as advance:
        advance("loss 3.0")
        advance("loss 2.0")
    assert "fairtest: train dp seed 0" in stream.getvalue()
    assert "\r" in stream.getvalue()
