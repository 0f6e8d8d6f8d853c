"""What a person reads when something is wrong: our message, their own line, no traceback of ours."""

from __future__ import annotations

import pytest

TEST = """
def test_gate(arms, fairness):
    fairness.assert_no_amplification(arms.dp, arms.baseline, metric="{metric}", max_increase=0.1)
"""


def project(
    pytester: pytest.Pytester, settings: str, *, metric: str = "templates.log_ratio[gender]", test: str = ""
) -> None:
    pytester.makepyprojecttoml(f"[tool.pytest.ini_options]\naddopts = ''\n[tool.fairtest]\n{settings}\n")
    pytester.makepyfile(test_it=test or TEST.format(metric=metric))


def jsonl(pytester, *lines):
    (pytester.path / "records.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


SOME = [f'{{"text": "The nurse said that she was ready, {i}."}}' for i in range(60)]


@pytest.mark.parametrize(
    ("settings", "metric", "words"),
    [
        ('corpus = "absent.jsonl"', "templates.log_ratio", ["CorpusError", "absent.jsonl"]),
        ('model = "./nowhere/model"\ncorpus = "records.jsonl"', "templates.log_ratio", ["ModelError", "nowhere/model"]),
        ("", "templates.log_ratio", ["SettingsError", "no corpus is set", 'corpus = "records.jsonl"']),
        ('corpus = "records.jsonl"\nepsilon = 0', "templates.log_ratio", ["SettingsError", "epsilon must be a number"]),
        ('corpus = "records.jsonl"\nepsilom = 3', "templates.log_ratio", ["SettingsError", "did you mean 'epsilon'"]),
        ('corpus = "records.jsonl"', "templates.log_ration", ["MetricError", "did you mean 'templates.log_ratio'"]),
        ('corpus = "records.jsonl"\ntext_field = "body"', "templates.log_ratio", ["CorpusError", "body", "text"]),
        ('corpus = "records.jsonl"\ndata_dir = "nothing-here"', "stereoset.ss[gender]", ["ProbeError", "stereoset"]),
        ('corpus = "records.jsonl"', "templates.log_ratio[height]", ["height", "gender"]),
        ('corpus = "records.jsonl"\ncache_dir = "records.jsonl/x"', "templates.log_ratio", ["StoreError", "cache-dir"]),
        ('corpus = "records.jsonl"\nbatch_size = 5000', "templates.log_ratio", ["5000", "batch"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_without_a_traceback_of_ours(pytester, settings, metric, words, monkeypatch):
    monkeypatch.delenv("FAIRTEST_DATA_DIR", raising=False)
    jsonl(pytester, *SOME)
    project(pytester, settings, metric=metric)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    text = result.stdout.str()
    result.assert_outcomes(failed=1) if "failed" in text.splitlines()[-1] else result.assert_outcomes(errors=1)
    for word in words:
        assert word in text, text
    assert "do:" in text
    assert "fairtest/experiments" not in text, text
    assert "fairtest/gates" not in text, text
    assert "site-packages" not in text, text


def test_an_empty_corpus_and_a_record_without_text_are_named_by_file_and_line(pytester):
    (pytester.path / "records.jsonl").write_text("")
    project(pytester, 'corpus = "records.jsonl"')
    empty = pytester.runpytest_subprocess("-p", "no:cacheprovider").stdout.str()
    assert "CorpusError" in empty
    jsonl(pytester, *SOME[:3], '{"text": 7}')
    wrong = pytester.runpytest_subprocess("-p", "no:cacheprovider").stdout.str()
    assert "records.jsonl, line 4" in wrong
    assert "text" in wrong


def test_an_unknown_arm_and_a_wrong_finetune_say_what_there_is(pytester):
    jsonl(pytester, *SOME)
    project(
        pytester,
        'corpus = "records.jsonl"',
        test="""
        def test_arm(arms):
            arms.dp_cdaa

        def test_settings(finetune):
            finetune("mine", step=3)

        def test_name(finetune):
            finetune("dp")
        """,
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=3)
    text = result.stdout.str()
    assert "there is no arm 'dp_cdaa'" in text
    assert "did you mean 'dp_cda'" in text
    assert "finetune got unknown settings: step" in text
    assert "'dp' is the name of a standard arm" in text


def test_a_hub_id_without_a_network_says_what_to_do(pytester, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(pytester.path / "hub"))
    jsonl(pytester, *SOME)
    project(pytester, 'model = "distilgpt2"\ncorpus = "records.jsonl"')
    text = pytester.runpytest_subprocess("-p", "no:cacheprovider").stdout.str()
    assert "ModelError" in text
    assert "distilgpt2" in text
    assert "give a local directory or an embedded name" in text


def test_a_project_that_does_not_use_it_sees_and_loads_nothing(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            heavy = {"torch", "transformers", "opacus", "datasets", "numpy", "fairtest"} & set(sys.modules)
            assert not heavy
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
    assert "fairtest" not in "\n".join(result.stdout.str().split("collected 1 item")[1:])


def test_a_test_that_died_before_its_verdict_is_told_in_the_summary(pytester):
    project(pytester, 'corpus = "absent.jsonl"')
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    assert "no gates; 1 test that asked for a verdict FAILED for another reason" in result.stdout.str()


def test_a_gate_in_a_fixture_is_in_the_summary_too(pytester):
    pytester.makepyfile(
        """
        import fairtest
        import pytest
        from fairtest.gates.result import Estimate, GateFailure, GateResult, Verdict

        @pytest.fixture
        def gate(fairness):
            result = GateResult(gate="utility", metric="perplexity", unit="", protocol="", candidate="dp",
                                reference="baseline", verdict=Verdict.FAIL, reason="", allowed=1.0, confidence=0.95,
                                change=Estimate(2.0, 1.9, 2.1))
            fairness._record(result)
            raise GateFailure(result)

        def test_it(gate):
            pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["FAIL *dp against baseline*", "1 gate: 1 FAIL*"])


def test_a_marker_without_keywords_is_refused(pytester):
    project(
        pytester,
        "",
        test="""
        import pytest

        @pytest.mark.fairtest({"seeds": 7})
        def test_it(fairtest_config):
            pass
        """,
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    assert "the marker fairtest takes settings by keyword" in result.stdout.str()
    result.assert_outcomes(errors=1)
