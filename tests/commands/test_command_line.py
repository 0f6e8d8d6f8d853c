"""What every command has in common."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fairtest.commands
from fairtest import __version__
from fairtest.commands import COMMANDS, main
from fairtest.commands.viewing import viewed


def fairtest_process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fairtest", *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def test_the_command_line_tells_what_it_can_do(run):
    shown = run("--help")
    assert shown.status == 0
    for name, command in COMMANDS.items():
        assert name in shown.out
        assert command.summary.split(":")[0] in shown.out
    assert run("--version").out == f"fairtest {__version__}\n"
    assert run("cda", "preview", "--help").status == 0


@pytest.mark.parametrize("arguments", [[], ["cda"], ["nonsense"], ["cda", "preview"], ["cda", "apply", "a.txt"]])
def test_a_command_that_is_not_complete_shows_its_usage(run, arguments):
    shown = run(*arguments)
    assert shown.status == 2
    assert "usage: fairtest" in shown.err


def test_a_module_is_run_like_the_command(corpus):
    shown = fairtest_process("cda", "preview", corpus)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "[-She-]{+He+} met [-her-]{+his+} [-brother-]{+sister+}." in shown.stdout


def test_the_installed_command_is_the_main_function():
    from importlib.metadata import entry_points

    found = [entry for entry in entry_points(group="console_scripts") if entry.name == "fairtest"]
    if not found:
        pytest.skip("the package was installed before it had a command")
    assert found[0].load() is main


def test_help_loads_nothing_heavy():
    code = """
import sys, fairtest.commands
try:
    fairtest.commands.main(["cda", "apply", "--help"])
except SystemExit:
    print("loaded", *{"torch", "datasets", "numpy", "tqdm", "pyarrow", "fairtest.augmentation"} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "loaded"


def test_an_error_of_the_user_is_a_message_and_no_traceback(run, tmp_path):
    shown = run("cda", "preview", tmp_path / "nothing.jsonl")
    assert shown.status == 2
    assert shown.out == ""
    assert shown.err.startswith("fairtest: there is no corpus at ")
    assert "  do:    check the path" in shown.err


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    path = tmp_path / "many.txt"
    path.write_text("She met her brother.\n" * 20_000, encoding="utf-8")
    command = [sys.executable, "-m", "fairtest", "cda", "preview", str(path), "--limit", "20000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "Differences\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 141


def test_an_interrupt_is_said_in_a_word(run, corpus, monkeypatch):
    def interrupted(*args):
        yield next(viewed(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr("fairtest.commands.preview.viewed", interrupted)
    shown = run("cda", "preview", corpus)
    assert (shown.status, shown.err) == (130, "fairtest: interrupted\n")


def test_a_command_is_imported_when_it_is_asked_for(run, monkeypatch):
    monkeypatch.setattr(fairtest.commands, "COMMANDS", {**COMMANDS, "later": COMMANDS["cda"]})
    imported = []
    real = fairtest.commands.importlib.import_module
    monkeypatch.setattr(fairtest.commands.importlib, "import_module", lambda name: imported.append(name) or real(name))
    run("--help")
    assert imported == []
    run("cda", "--help")
    assert imported == ["fairtest.commands.cda"]
