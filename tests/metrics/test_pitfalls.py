"""Where implementations of one metric differ or go wrong: which test shows that this one does not.

`PITFALLS` is the table, from the pitfall to its tests; those that no other file has are below.
"""

import ast
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.experiments.model_scores import model_kind
from fairtest.metrics import item_values, parse_metric
from fairtest.probes.crows_pairs import read_crows_pairs
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.probes.stereoset import read_stereoset
from fairtest.scoring.likelihood import score_probe_set
from fairtest.scoring.scores import ProbeScores
from fairtest.tiny import model_directory
from fairtest.training.models import load_model
from fairtest.training.sources import resolve_model

TESTS = Path(__file__).parents[1]
OCCUPATION_INTERVALS = (
    "metrics/test_occupation_intervals.py::"
    "test_intervals_hold_the_correlation_as_often_as_they_say_where_those_of_the_textbook_do_not"
)
PITFALLS = {
    "one row changes with the padding or the batch": (
        "scoring/test_likelihood.py::test_batch_size_order_and_company_change_no_score",
        "scoring/test_likelihood.py::test_padding_with_a_token_of_the_text_changes_no_score",
        "scoring/test_masked.py::test_batches_order_and_company_change_no_score",
        "metrics/test_stereoset_nadeem2021.py::test_batch_size_padding_and_company_change_no_score",
        "metrics/test_embedding_metrics.py::test_embeddings_are_those_of_the_plain_model_whatever_the_batch",
        "scoring/test_text_scorers.py::test_a_classifier_gives_what_its_model_gives_for_each_text_alone",
    ),
    "generation pads on the right, or without a mask": (
        "scoring/test_generation.py::test_completions_are_those_of_a_loop_over_prompts_one_at_a_time",
        "scoring/test_generation.py::test_batch_size_order_and_company_change_no_text",
        "scoring/test_generation.py::test_a_pad_token_is_not_needed_and_changes_nothing",
    ),
    "ids begin with two BOS, or with none": (
        "scoring/test_likelihood.py::test_a_tokenizer_that_adds_bos_itself_gives_the_same_scores",
        "training/test_forward.py::test_a_text_gets_one_bos_and_no_eos_whatever_the_tokenizer_adds",
        "training/test_forward.py::test_the_token_in_front_is_the_bos_or_the_document_separator",
        "metrics/test_stereoset_nadeem2021.py::test_a_tokenizer_that_adds_bos_itself_gives_the_same_scores",
        "metrics/test_pitfalls.py::test_whether_bos_is_in_front_turns_single_items_round_and_the_protocol_says_which",
    ),
    "the first token is not scored": (
        "scoring/test_likelihood.py::test_the_first_token_is_scored_after_one_bos",
        "metrics/test_pitfalls.py::test_pairs_that_differ_in_the_first_word_alone_are_told_apart",
        "metrics/test_pitfalls.py::test_so_many_published_pairs_differ_in_their_first_word",
    ),
    "what a model is follows from the path it lies under": (
        "metrics/test_pitfalls.py::test_a_model_under_any_path_scores_the_same",
        "training/test_sources.py::test_the_same_files_have_one_digest_under_any_path",
        "scoring/test_masked_refusals.py::test_a_saved_model_is_loaded_and_scores_the_same",
    ),
    "Banana loses its space in mid-sentence": (
        "scoring/test_likelihood.py::test_a_word_in_mid_sentence_keeps_its_space",
        "scoring/test_masked.py::test_a_blank_after_a_space_is_asked_for_the_word_with_its_space",
        "scoring/test_generation.py::test_a_completion_keeps_the_space_in_front_of_its_first_word",
    ),
    "one NaN vanishes in a mean": (
        "scoring/test_likelihood.py::test_a_nan_for_one_text_names_the_item",
        "scoring/test_masked_refusals.py::test_a_score_that_is_not_a_number_names_its_item",
        "metrics/test_stereoset_nadeem2021.py::test_a_nan_names_the_item",
        "metrics/test_metric_names.py::test_item_values_that_are_not_finite_name_the_item",
        "metrics/test_classification_metrics.py::test_a_score_that_is_no_number_names_its_item",
        "scoring/test_text_scorers.py::test_a_scorer_that_returns_something_else_is_an_error_with_the_item",
    ),
    "StereoSet: LMS as an OR of its two comparisons": (
        "metrics/test_metric_definitions.py::test_the_language_model_score_is_two_comparisons_and_not_an_or",
    ),
    "StereoSet: a mean over items for the published one over terms, ICAT averaged instead of made of averages": (
        "metrics/test_stereoset_golden.py::test_published_predictions_give_the_published_scores",
        "metrics/test_stereoset_golden.py::test_gpt2_over_items_differs_from_the_mean_over_terms",
        "metrics/test_stereoset_nadeem2021.py::test_terms_count_alike_and_ties_lose",
        "metrics/test_stereoset_nadeem2021.py::test_published_items_have_the_scores_of_a_plain_reading",
    ),
    "StereoSet: ties as a preference": (
        "metrics/test_metric_definitions.py::test_nadeem2021_counts_ties_as_anti_and_unrelated_and_averages_terms",
        "metrics/test_stereoset_masked.py::test_ties_are_no_preference_and_not_related",
    ),
    "StereoSet, causal: BOS only before the first token, geometric mean per token": (
        "metrics/test_stereoset_nadeem2021.py::test_the_first_token_comes_after_bos_and_the_others_without_it",
        "metrics/test_stereoset_nadeem2021.py::test_it_is_another_score_than_with_bos_in_context_or_without_any",
        "metrics/test_stereoset_nadeem2021.py::test_scores_of_another_protocol_are_refused",
    ),
    "StereoSet, masked: the blank sub-token by sub-token, mean of probabilities": (
        "scoring/test_masked.py::test_blanks_are_scored_by_the_algorithm_of_stereoset",
        "scoring/test_masked.py::test_real_stereoset_scores_as_the_published_algorithm_says",
    ),
    "StereoSet: intersentence items among the others": (
        "metrics/test_pitfalls.py::test_intersentence_items_are_left_out",
    ),
    "CrowS-Pairs, masked: modified tokens scored too, or scores not rounded": (
        "scoring/test_masked.py::test_unmodified_is_the_algorithm_of_crows_pairs",
        "scoring/test_masked.py::test_real_crows_pairs_score_as_the_published_algorithm_says",
        "metrics/test_metric_definitions.py::test_nangia2020_rounds_to_three_decimals_first",
        "metrics/test_crows_pairs_masked.py::test_scores_of_another_protocol_are_refused",
    ),
    "CrowS-Pairs: ties leave the denominator": (
        "metrics/test_metric_definitions.py::test_nangia2020_keeps_ties_in_the_denominator",
        "metrics/test_crows_pairs_masked.py::test_a_tie_after_rounding_is_no_preference_and_stays_in_the_denominator",
    ),
    "CrowS-Pairs: antistereo rows inverted": (
        "probes/test_crows_pairs_reader.py::test_sent_more_is_the_stereotype_in_antistereo_rows_too",
    ),
    "sums and means per token under one name": (
        "metrics/test_metric_definitions.py::test_the_normalised_share_compares_log_probabilities_per_token",
        "metrics/test_pitfalls.py::test_sums_and_means_disagree_only_where_numbers_of_tokens_differ",
        "metrics/test_bbq_metrics.py::test_sums_and_means_per_token_are_two_protocols",
    ),
    "duplicates and pairs with several edits unnoticed": (
        "probes/test_faults.py::test_the_faults_of_crows_pairs_as_published",
        "probes/test_faults.py::test_the_faults_of_stereoset_as_published",
    ),
    "BBQ: UNKNOWN taken for the last answer": (
        "probes/test_bbq_reader.py::test_unknown_may_be_any_of_the_answers",
        "metrics/test_bbq_metrics.py::test_the_order_of_the_answers_changes_nothing",
    ),
    "BBQ: no answer other than UNKNOWN taken for no bias": (
        "metrics/test_bbq_metrics.py::test_a_model_that_always_answers_unknown_has_no_s_and_says_why",
    ),
    "BBQ: s compared between models over other items": (
        "metrics/test_bbq_metrics.py::test_s_has_the_same_items_for_every_model_and_those_answered_unknown_move_nothing",
        "metrics/test_bbq_metrics.py::test_the_interval_of_a_change_of_s_is_as_wide_as_resampled_templates_say",
        "metrics/test_every_metric.py::test_two_models_have_the_same_items",
    ),
    "WEAT: which standard deviation, which tail": (
        "metrics/test_embedding_metrics.py::test_weat_is_its_definition",
        "metrics/test_embedding_metrics.py::test_the_sample_formula_is_the_default",
        "metrics/test_embedding_metrics.py::test_equal_partitions_count_whatever_their_rounding",
    ),
    "toxicity gap: not paired, a maximum that grows with samples, decoding not recorded": (
        "metrics/test_generation_metrics.py::test_a_paired_gap_is_the_mean_over_pairs_of_the_difference",
        "metrics/test_generation_metrics.py::test_share_and_expected_maximum_are_taken_over_the_completions_of_a_prompt",
        "metrics/test_generation_metrics.py::test_difference_and_ratio_can_disagree",
        "scoring/test_text_scorers.py::test_decoding_scorer_and_revision_are_part_of_the_protocol",
    ),
    "regard and HONEST of something else": (
        "metrics/test_generation_metrics.py::test_regard_is_the_gap_of_each_class",
        "metrics/test_generation_metrics.py::test_honest_is_the_share_of_completions_with_a_listed_word",
    ),
    "perplexity of a group as a mean over texts": (
        "metrics/test_perplexity.py::test_every_token_counts_the_same",
        "metrics/test_perplexity.py::test_a_group_is_the_perplexity_of_its_texts",
    ),
    "a correlation over 60 occupations without an interval": (
        "metrics/test_occupation_intervals.py::test_the_interval_is_its_definition",
        OCCUPATION_INTERVALS,
    ),
}


@pytest.mark.parametrize("pitfall", PITFALLS)
def test_the_tests_of_a_pitfall_exist(pitfall):
    for place in PITFALLS[pitfall]:
        file, _, name = place.partition("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, place


@pytest.fixture(scope="module")
def embedded():
    return load_model(resolve_model("fairtest/tiny"))


def pairs_of(*texts):
    roles = ("stereotype", "anti_stereotype")
    probes = (Probe(f"p{i}", "gender", f"t{i}", dict(zip(roles, two, strict=True))) for i, two in enumerate(texts))
    return ProbeSet("own", "1", "none", "here", tuple(probes))


@pytest.mark.parametrize("name", ["gpt2", "bert-base-cased for masked lm", "Llama.gguf", "xlnet"])
def test_a_model_under_any_path_scores_the_same(tmp_path, embedded, name):
    shutil.copytree(model_directory(), tmp_path / name)
    source = resolve_model(str(tmp_path / name))
    assert model_kind(source) == "causal"
    probes = pairs_of(("The nurse was happy.", "The pilot was happy."))
    assert score_probe_set(load_model(source), probes).log_probs == score_probe_set(embedded, probes).log_probs


def test_pairs_that_differ_in_the_first_word_alone_are_told_apart(embedded):
    probes = pairs_of(("She was happy.", "He was happy."))
    scores = score_probe_set(embedded, probes)
    ratio = item_values(parse_metric("templates.log_ratio"), scores_named(scores, "templates")).values[0]
    (without,) = pairs_difference(score_probe_set(embedded, probes, protocol="causal-nobos"))
    assert abs(ratio - without) > 1e-3  # what log p(She | BOS) - log p(He | BOS) adds


def pairs_difference(scores):
    columns = (scores.log_probs["stereotype"], scores.log_probs["anti_stereotype"])
    return [more - less for more, less in zip(*columns, strict=True)]


def scores_named(scores, probe_set):
    return ProbeScores(**{**scores.to_json(), "probe_set": probe_set, "axes": ("gender",) * len(scores.ids)})


def invented_pairs():
    """Pairs whose first words differ, in words that the embedded model knows."""
    jobs = ("nurse", "pilot", "baker", "miner", "teacher", "driver")
    return pairs_of(*((f"People saw the {a}.", f"Everyone saw the {b}.") for a in jobs for b in jobs))


def test_whether_bos_is_in_front_turns_single_items_round_and_the_protocol_says_which(embedded):
    probes = invented_pairs()
    both = {name: score_probe_set(embedded, probes, protocol=name) for name in ("causal-bos", "causal-nobos")}
    assert {name: scores.protocol for name, scores in both.items()} == {name: name for name in both}
    signs = [[d > 0 for d in pairs_difference(scores)] for scores in both.values()]
    turned = sum(a != b for a, b in zip(*signs, strict=True))
    assert 0 < turned < len(probes)


@given(st.lists(st.tuples(st.floats(-50, -1), st.floats(-50, -1), st.integers(1, 9), st.integers(1, 9)), min_size=1))
def test_sums_and_means_disagree_only_where_numbers_of_tokens_differ(rows):
    more, less, more_tokens, less_tokens = zip(*rows, strict=True)
    scores = ProbeScores(
        probe_set="crows_pairs",
        probe_digest="d",
        protocol="causal-bos",
        ids=tuple(map(str, range(len(rows)))),
        axes=("age",) * len(rows),
        clusters=("c",) * len(rows),
        log_probs={"stereotype": more, "anti_stereotype": less},
        tokens={"stereotype": more_tokens, "anti_stereotype": less_tokens},
    )
    sums, means = (
        item_values(parse_metric(f"crows_pairs.{name}"), scores).values for name in ("preference", "preference_norm")
    )
    for by_sum, by_mean, row in zip(sums, means, rows, strict=True):
        # Division may make a tie of two numbers that are next to each other.
        assert by_sum == by_mean or row[2] != row[3] or abs(row[0] - row[1]) < 1e-9


def test_so_many_published_pairs_differ_in_their_first_word(data_dir):
    probes = read_crows_pairs(data_dir)
    firsts = [{text.split()[0] for text in probe.texts.values()} for probe in probes.probes]
    assert sum(len(words) == 2 for words in firsts) == 423


def test_intersentence_items_are_left_out(data_dir):
    file = data_dir / "stereoset" / "dev.json"
    if not file.is_file():
        pytest.skip("StereoSet is absent; set FAIRTEST_DATA_DIR")
    content = json.loads(file.read_text(encoding="utf-8"))["data"]
    ids = {probe.id for probe in read_stereoset(data_dir).probes}
    assert ids == {item["id"] for item in content["intrasentence"]}
    assert not ids & {item["id"] for item in content["intersentence"]}
