"""StereoSet's published protocol for causal models, against a plain reading of it on the real items."""

import dataclasses
import math
import random
from collections import defaultdict
from statistics import fmean, stdev

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from fairtest.errors import MetricError, ProbeError
from fairtest.experiments.model_scores import score_model
from fairtest.metrics import icat_score, item_values, on_axis, parse_metric, stereoset_scores
from fairtest.metrics.metric import MetricRef
from fairtest.metrics.stereoset import NADEEM2021
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.probes.stereoset import read_stereoset
from fairtest.scoring.likelihood import score_probe_set
from fairtest.scoring.nadeem2021 import score_nadeem2021
from fairtest.scoring.scores import ProbeScores
from fairtest.statistics.intervals import mean_interval
from fairtest.store import Store
from fairtest.training.models import LoadedModel
from fairtest.training.sources import ModelSource

ROLES = ("stereotype", "anti_stereotype", "unrelated")
BY_NAME = {metric.name.removeprefix("stereoset."): metric for metric in NADEEM2021}
BOS = "<|endoftext|>"


def byte_tokenizer(*, adds_bos=False):
    """One token a byte in GPT-2's alphabet, where a space belongs to the word behind it; BOS is EOS, as in GPT-2."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({symbol: index for index, symbol in enumerate((BOS, *alphabet))}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    if adds_bos:
        raw.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=BOS, eos_token=BOS, pad_token=BOS)


def small_model(**options):
    torch.manual_seed(0)
    # A wide start makes scores differ far more than rounding does.
    config = GPT2Config(
        vocab_size=257, n_positions=192, n_embd=16, n_layer=2, n_head=2, initializer_range=0.4,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    return LoadedModel(model, byte_tokenizer(**options), ModelSource("test", "directory", "nowhere", "0" * 64))


MODEL = small_model()


def as_published(text):
    """The score of a sentence, step by step as the authors describe it: probabilities, and their geometric mean."""
    ids = MODEL.tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        first = MODEL.model(torch.tensor([[0]])).logits[0, 0].double().softmax(-1)
        later = MODEL.model(torch.tensor([ids])).logits[0].double().softmax(-1)
    found = [float(first[ids[0]])] + [float(later[i - 1, ids[i]]) for i in range(1, len(ids))]
    return 2 ** (sum(map(math.log2, found)) / len(found)), len(ids)


def some(*triples, **fields):
    probes = tuple(
        Probe(f"p{i}", "gender", f"t{i}", dict(zip(ROLES, texts, strict=True)), **fields)
        for i, texts in enumerate(triples)
    )
    return ProbeSet("stereoset", "1", "none", "here", probes)


FEW = some(("He was a nurse.", "She ate a Banana", "ab"), ("So he ran", "So", "A tree in the old town."))


def test_the_first_token_comes_after_bos_and_the_others_without_it():
    scores = score_nadeem2021(MODEL, FEW)
    assert scores.protocol == "causal-nadeem2021"
    for index, probe in enumerate(FEW.probes):
        for role, text in probe.texts.items():
            expected, tokens = as_published(text)
            assert scores.log_probs[role][index] == pytest.approx(math.log(expected), abs=1e-5)
            assert scores.tokens[role][index] == tokens


def test_it_is_another_score_than_with_bos_in_context_or_without_any():
    found = score_nadeem2021(MODEL, FEW)
    for protocol in ("causal-bos", "causal-nobos"):
        other = score_probe_set(MODEL, FEW, protocol=protocol)
        for role in ROLES:
            for mean, total, tokens in zip(
                found.log_probs[role], other.log_probs[role], other.tokens[role], strict=True
            ):
                assert abs(mean - total / tokens) > 1e-4


def test_batch_size_padding_and_company_change_no_score():
    whole = score_nadeem2021(MODEL, FEW)
    tiny = score_nadeem2021(MODEL, FEW, batch_tokens=1)
    alone = [score_nadeem2021(MODEL, dataclasses.replace(FEW, probes=(probe,))) for probe in FEW.probes]
    for role in ROLES:
        assert tiny.log_probs[role] == pytest.approx(whole.log_probs[role], abs=1e-5)
        assert tuple(one.log_probs[role][0] for one in alone) == pytest.approx(whole.log_probs[role], abs=1e-5)


def test_a_tokenizer_that_adds_bos_itself_gives_the_same_scores():
    assert score_nadeem2021(small_model(adds_bos=True), FEW) == score_nadeem2021(MODEL, FEW)


def test_a_nan_names_the_item():
    broken = small_model()
    broken.model.lm_head.weight = torch.nn.Parameter(broken.model.lm_head.weight.clone())
    with torch.no_grad():
        broken.model.transformer.wte.weight[broken.tokenizer.get_vocab()["z"]] = float("nan")
    with pytest.raises(MetricError, match=r"score of probe 'p1' \(unrelated\) is nan"):
        score_nadeem2021(broken, some(("ab", "ac", "ad"), ("ab", "ac", "azz")))


def test_a_single_token_a_prompt_and_a_text_too_long_name_the_item():
    with pytest.raises(ProbeError, match=r"probe 'p0' \(anti_stereotype\) has fewer than two tokens"):
        score_nadeem2021(MODEL, some(("ab", "a", "abc")))
    with pytest.raises(ProbeError, match="probe 'p0' has a prompt, and protocol 'causal-nadeem2021' scores whole"):
        score_nadeem2021(MODEL, some(("ab", "ac", "abc"), prompt="Once "))
    with pytest.raises(ProbeError, match=r"probe 'p0' \(unrelated\) has 193 tokens"):
        score_nadeem2021(MODEL, some(("ab", "ac", "a" * 193)))


def test_progress_is_told_and_options_reach_the_scorer():
    calls = []
    score_nadeem2021(MODEL, FEW, on_batch=lambda *done: calls.append(done))
    assert calls[-1] == (6, 6)
    near = score_nadeem2021(MODEL, FEW, precision="bfloat16")
    assert near.log_probs["stereotype"] == pytest.approx(score_nadeem2021(MODEL, FEW).log_probs["stereotype"], abs=0.1)


def test_a_model_is_measured_with_the_published_metrics_beside_ours(tmp_path):
    MODEL.model.save_pretrained(tmp_path / "model")
    MODEL.tokenizer.save_pretrained(tmp_path / "model")
    found = score_model(str(tmp_path / "model"), FEW, store=Store(tmp_path / "store"), threads=1)
    estimates = {estimate.metric: estimate for estimate in found.estimates}
    assert {"stereoset.ss", "stereoset.icat", *(metric.name for metric in NADEEM2021)} <= set(estimates)
    assert set(found.scores) == {"causal-bos", "causal-nadeem2021"}
    expected = stereoset_scores(score_nadeem2021(MODEL, FEW), "nadeem2021")
    assert estimates["stereoset.icat_nadeem2021"].estimate == pytest.approx(expected.icat_score)
    assert estimates["stereoset.lms_nadeem2021"].estimate == pytest.approx(expected.lm_score)


def scores_of(rows, protocol="causal-nadeem2021"):
    """Scores of (stereotype, anti-stereotype, unrelated, term)."""
    *columns, terms = zip(*rows, strict=True)
    return ProbeScores(
        probe_set="stereoset",
        probe_digest="d",
        protocol=protocol,
        ids=tuple(f"i{i}" for i in range(len(rows))),
        axes=("race",) * len(rows),
        clusters=terms,
        log_probs={role: tuple(map(float, column)) for role, column in zip(ROLES, columns, strict=True)},
        tokens=dict.fromkeys(ROLES, (3,) * len(rows)),
    )


def values_of(name, scores, axis=None):
    return item_values(MetricRef(BY_NAME[name], axis), scores)


def test_terms_count_alike_and_ties_lose():
    scores = scores_of([(3, 1, 2, "t"), (3, 1, 0, "t"), (1, 1, 1, "u")])
    ss, lm, icat = (values_of(f"{name}_nadeem2021", scores) for name in ("ss", "lms", "icat"))
    assert ss.estimate == pytest.approx(50)  # (100 + 0) / 2, over items 66.7
    assert lm.estimate == pytest.approx(37.5)  # (75 + 0) / 2
    assert icat.estimate == pytest.approx(37.5)
    assert (ss.ties, lm.ties, icat.ties) == (1, 1, 1)


def test_scores_of_another_protocol_are_refused():
    for metric in NADEEM2021:
        with pytest.raises(MetricError, match="reads scores of protocol 'causal-nadeem2021', and got those of 'causal"):
            item_values(MetricRef(metric), scores_of([(3, 1, 2, "t")], protocol="causal-bos"))


def drawn_terms(generator, terms=70):
    rows = []
    for term in range(terms):
        lean, known = generator.gauss(0.4, 0.5), generator.gauss(1.2, 0.5)
        rows += [
            (lean + generator.gauss(0, 1), generator.gauss(0, 1), generator.gauss(0, 1) - known, f"t{term}")
            for _ in range(generator.randint(1, 50))
        ]
    return rows


@pytest.mark.parametrize("name", ["ss", "lms", "icat"])
def test_intervals_are_as_wide_as_resampled_terms_say(name):
    generator = random.Random(1)
    scores = scores_of(drawn_terms(generator))
    values = values_of(f"{name}_nadeem2021", scores)
    by_term = defaultdict(list)
    for more, less, none, term in zip(*(scores.log_probs[role] for role in ROLES), scores.clusters, strict=True):
        by_term[term].append((100.0 * (more > less), 50.0 * ((more > none) + (less > none))))
    means = [tuple(map(fmean, zip(*found, strict=True))) for found in by_term.values()]
    spread = []
    for _ in range(2000):
        ss, lm = map(fmean, zip(*generator.choices(means, k=len(means)), strict=True))
        spread.append({"ss": ss, "lms": lm, "icat": icat_score(lm, ss)}[name])
    interval = mean_interval([values.values], values.clusters)
    assert interval.cluster_se == pytest.approx(stdev(spread), rel=0.1)


@pytest.fixture(scope="module")
def published(data_dir):
    if not (data_dir / "stereoset" / "dev.json").is_file():
        pytest.skip("StereoSet is absent; set FAIRTEST_DATA_DIR")
    everything = read_stereoset(data_dir)
    return dataclasses.replace(everything, probes=everything.probes[::25])


def test_published_items_have_the_scores_of_a_plain_reading(published):
    scores = score_nadeem2021(MODEL, published)
    terms = defaultdict(list)
    for index, probe in enumerate(published.probes):
        one = {role: as_published(probe.texts[role]) for role in ROLES}
        for role in ROLES:
            assert scores.log_probs[role][index] == pytest.approx(math.log(one[role][0]), abs=1e-5)
            assert scores.tokens[role][index] == one[role][1]
        more, less, none = (one[role][0] for role in ROLES)
        terms[probe.cluster].append((more > less, ((more > none) + (less > none)) / 2))
    ss = 100 * fmean(fmean(s for s, _ in found) for found in terms.values())
    lm = 100 * fmean(fmean(m for _, m in found) for found in terms.values())
    found = {name: values_of(f"{name}_nadeem2021", scores).estimate for name in ("ss", "lms", "icat")}
    assert found == pytest.approx({"ss": ss, "lms": lm, "icat": lm * min(ss, 100 - ss) / 50}, abs=1e-9)
    summary = stereoset_scores(scores, "nadeem2021")
    assert found["icat"] == pytest.approx(summary.icat_score, abs=1e-9)
    # "stereoset.ss" of the same items is of another protocol, and another number.
    other = item_values(parse_metric("stereoset.ss"), score_probe_set(MODEL, published)).estimate
    assert abs(other - ss) > 0.1


def test_a_domain_has_its_own_terms_and_its_own_icat(published):
    scores = score_nadeem2021(MODEL, published)
    for axis in sorted(set(scores.axes)):
        summary = stereoset_scores(on_axis(scores, axis), "nadeem2021")
        assert values_of("ss_nadeem2021", scores, axis).estimate == pytest.approx(summary.ss_score, abs=1e-9)
        assert values_of("icat_nadeem2021", scores, axis).estimate == pytest.approx(summary.icat_score, abs=1e-9)
