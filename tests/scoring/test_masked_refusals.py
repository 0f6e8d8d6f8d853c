"""What cannot be scored is refused with the item, the place and what to do; and what a directory has to hold."""

import pytest
import torch
import transformers as hf
from masked_builders import FAMILIES, LONGEST, PAIR, bert, loaded, probe_set, roberta, wordpiece_tokenizer

from fairtest.errors import MetricError, ModelError, ProbeError
from fairtest.scoring.likelihood import score_probe_set
from fairtest.scoring.masked import encode_masked, score_masked_probe_set
from fairtest.scoring.masked_models import MaskedForward, load_masked_model
from fairtest.scoring.masked_protocols import MLM_PLL, MLM_STEREOSET, MLM_UNMODIFIED
from fairtest.training.sources import resolve_model

NURSES = ("The nurse was kind.", "The doctor was kind.")


def score(model, *texts, protocol=MLM_PLL, **options):
    return score_masked_probe_set(model, probe_set(*texts, roles=PAIR, **options), protocol=protocol)


def gpt2(tokenizer):
    torch.manual_seed(0)
    config = hf.GPT2Config(
        vocab_size=len(tokenizer), n_positions=LONGEST, n_embd=16, n_layer=2, n_head=2, bos_token_id=2, eos_token_id=3
    )
    return loaded(hf.GPT2LMHeadModel(config).eval(), tokenizer)


@pytest.mark.parametrize("mask", ["[MASK]", None])
def test_a_causal_model_is_refused_whatever_its_tokenizer(mask):
    with pytest.raises(ModelError, match="model 'test' is causal: its predictions do not change") as caught:
        score(gpt2(wordpiece_tokenizer(mask=mask)), NURSES)
    assert "score_probe_set" in caught.value.fix


@pytest.mark.parametrize(
    "build", [lambda: bert(wordpiece_tokenizer(bos="[CLS]")), roberta], ids=["bert with a bos", "roberta"]
)
def test_a_masked_model_is_not_scored_as_a_causal_one(build):
    with pytest.raises(ModelError, match="is not causal"):
        score_probe_set(build(), probe_set(NURSES, roles=PAIR))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_freshly_drawn_masked_model_is_no_causal_one(name):
    fresh = FAMILIES[name]()
    fresh.model = type(fresh.model)(
        type(fresh.model.config)(**{**fresh.model.config.to_dict(), "initializer_range": 0.02})
    )
    assert MaskedForward(loaded(fresh.model.eval(), fresh.tokenizer)).splits


def test_a_model_that_encodes_and_decodes_is_refused():
    tokenizer = wordpiece_tokenizer()
    config = hf.BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16,
        decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2,
    )  # fmt: skip
    with pytest.raises(ModelError, match="encodes and decodes"):
        score(loaded(hf.BartForConditionalGeneration(config).eval(), tokenizer), NURSES)


def test_a_classifier_is_refused():
    found = bert()
    model = hf.BertForSequenceClassification(found.model.config).eval()
    with pytest.raises(ModelError, match=r"BertForSequenceClassification\) does not predict tokens"):
        score(loaded(model, found.tokenizer), NURSES)


def test_a_tokenizer_without_a_mask_is_named():
    with pytest.raises(ModelError, match="the tokenizer of model 'test' has no mask token"):
        score(loaded(bert().model, wordpiece_tokenizer(mask=None)), NURSES)


@pytest.mark.parametrize(("build", "longest"), [(bert, LONGEST), (roberta, LONGEST - 2)], ids=["bert", "roberta"])
def test_a_text_that_is_too_long_names_its_item_and_one_that_just_fits_is_scored(build, longest):
    # RoBERTa's first two positions are no token's.
    model = build()
    fits = "x" * (longest - 2)
    if build is bert:
        fits = " ".join(fits)
    assert len(encode_masked(model, [fits])[0].ids) == longest
    assert score(model, NURSES, (fits, "x")).tokens["stereotype"][1] == longest - 2
    with pytest.raises(ProbeError) as caught:
        score(model, NURSES, (f"{fits}.", "x"))
    assert caught.value.what == (
        f"probe 'p1' (stereotype) has {longest + 1} tokens, special ones included, and model 'test' reads at most"
        f" {longest}"
    )


def test_a_score_that_is_not_a_number_names_its_item():
    model = bert()
    with torch.no_grad():
        model.model.bert.embeddings.word_embeddings.weight[model.tokenizer.convert_tokens_to_ids("park")] = torch.nan
    with pytest.raises(MetricError, match=r"score of probe 'p1' \(anti_stereotype\) is nan"):
        score(loaded(untied(model), model.tokenizer), NURSES, ("The nurse was kind.", "The park was kind."))


def untied(found):
    """The same model with a head of its own, so that what is broken in the embeddings is not broken for all."""
    model = found.model
    model.cls.predictions.decoder.weight = torch.nn.Parameter(torch.nan_to_num(model.cls.predictions.decoder.weight))
    return model


def test_weights_that_are_not_numbers_name_an_item():
    model = bert()
    with torch.no_grad():
        model.model.cls.predictions.bias.fill_(torch.nan)
    with pytest.raises(MetricError, match="score of probe 'p0'"):
        score(model, NURSES)


def test_a_prompt_is_refused():
    with pytest.raises(ProbeError, match="probe 'p0' has a prompt"):
        score(bert(), NURSES, prompt="so ")


def test_unmodified_compares_two_texts():
    with pytest.raises(ProbeError, match="'mlm-unmodified' compares two texts, and probe 'p0' has 3") as caught:
        score_masked_probe_set(bert(), probe_set((*NURSES, "The park was kind.")), protocol=MLM_UNMODIFIED)
    assert "mlm-pll" in caught.value.fix


def test_texts_that_share_nothing_cannot_be_compared_by_what_they_share():
    with pytest.raises(ProbeError, match=r"probe 'p1' \(anti_stereotype\) has no token to score"):
        score(bert(), NURSES, ("nurse", "doctor"), protocol=MLM_UNMODIFIED)


def test_an_empty_text_has_no_token_to_score():
    with pytest.raises(ProbeError, match=r"probe 'p0' \(stereotype\) has no token to score"):
        score(bert(), ("", "nurse"))


@pytest.mark.parametrize("texts", [("The nurse.", "The nurse."), ("", "The nurse.")])
def test_texts_without_a_blank_are_refused(texts):
    with pytest.raises(ProbeError, match="the texts of probe 'p0' do not differ in a word"):
        score(bert(), texts, protocol=MLM_STEREOSET)


def test_a_blank_needs_a_tokenizer_that_knows_characters(monkeypatch):
    model = bert()
    monkeypatch.setattr(type(model.tokenizer), "is_fast", property(lambda _self: False))
    assert score(model, NURSES).protocol == MLM_PLL
    with pytest.raises(ModelError, match="does not say which characters a token stands for"):
        score(model, NURSES, protocol=MLM_STEREOSET)


def test_an_unknown_protocol_or_precision_is_named():
    with pytest.raises(
        MetricError, match="unknown scoring protocol 'causal-bos' for a masked language model"
    ) as caught:
        score(bert(), NURSES, protocol="causal-bos")
    assert caught.value.fix == "known protocols: mlm-unmodified, mlm-pll, mlm-stereoset"
    with pytest.raises(ModelError, match="unknown precision 'half'"):
        score_masked_probe_set(bert(), probe_set(NURSES, roles=PAIR), protocol=MLM_PLL, precision="half")


def test_texts_that_the_tokenizer_does_not_know_are_refused():
    with pytest.raises(ProbeError, match=r"% of the tokens of probe set 'own' are unknown"):
        score(bert(), ("ψ ω", "ω ψ"))


def test_a_token_that_the_model_does_not_embed_is_named():
    model = bert()
    model.tokenizer.add_tokens(["nursery"])
    with pytest.raises(ModelError, match="gives the id 91"):
        score(model, ("The nursery", "The nurse"))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_model_is_loaded_and_scores_the_same(name, tmp_path):
    model = FAMILIES[name]()
    model.model.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    again = load_masked_model(resolve_model(str(tmp_path)))
    assert not any(parameter.requires_grad for parameter in again.model.parameters())
    assert MaskedForward(again).splits
    first, second = (score(one, NURSES).log_probs for one in (model, again))
    assert first["stereotype"] == pytest.approx(second["stereotype"], abs=1e-5)


def test_a_causal_directory_is_not_loaded_as_a_masked_model():
    with pytest.raises(
        ModelError, match=r"model 'fairtest/tiny' is of type '.*', and that is no masked language model"
    ):
        load_masked_model(resolve_model("fairtest/tiny"))


def test_a_model_without_its_head_is_not_loaded(tmp_path):
    model = bert()
    model.model.bert.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match=r"lacks \d+ weights of a masked language model, the first is cls\.predictions"
    ):
        load_masked_model(resolve_model(str(tmp_path)))


def test_files_that_are_no_model_are_named(tmp_path):
    model = bert()
    model.model.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_masked_model(resolve_model(str(tmp_path)))
