"""The ways to make a counterfactual that are compared; of other libraries, what their documentation says to call."""

from __future__ import annotations

import contextlib
import csv
import functools
import importlib.util
import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from _cda_pairs import data_dir

from fairtest.augmentation import counterfactual
from fairtest.specs import CDA

FAIRTEST = "fairtest"
DICTIONARY = "dictionary swap"
BY_WORD = "dictionary swap, by word"

# A method answers each text with one text, or with one for each gender: then either may be the counterfactual.
Answer = tuple[str, ...]


class Method(Protocol):
    """What is timed: a batch of texts in, their counterfactuals out. `options` are fields of CDA."""

    def __call__(self, texts: Sequence[str], options: Mapping[str, Any]) -> list[Answer]: ...


def fairtest() -> Method:
    """This library; a text without a counterfactual stays as it is."""
    plain = CDA()

    def answers(texts: Sequence[str], options: Mapping[str, Any]) -> list[Answer]:
        cda = CDA(**options) if options else plain
        results = [counterfactual(text, cda).text for text in texts]
        return [(text if result is None else result,) for text, result in zip(texts, results, strict=True)]

    return answers


@functools.cache
def dictionary_words() -> dict[str, str]:
    """The words of fairtest's own list, one counterpart each: her gives his, and his gives her."""
    source = resources.files("fairtest.augmentation").joinpath("data", "gender_terms.csv").read_text(encoding="utf-8")
    partners: dict[str, str] = {}
    for row in csv.DictReader(io.StringIO(source)):
        masculine, feminine, way = (row[column].strip() for column in ("masculine", "feminine", "way"))
        if way != "to_masculine":
            partners.setdefault(masculine, feminine)
        if way != "to_feminine":
            partners.setdefault(feminine, masculine)
    # Who writes a dictionary leaves out a title that is a verb far more often.
    partners.pop("miss", None)
    return partners | {"her": "his", "his": "her"}


def dictionary() -> Method:
    """One regular expression of all words, any case, and a look-up: what most programs do."""
    words = "|".join(map(re.escape, sorted(dictionary_words(), key=len, reverse=True)))
    return _substituted(re.compile(rf"\b(?:{words})\b", re.IGNORECASE), dictionary_words())


def dictionary_by_word() -> Method:
    """A look-up of each word of the text: the same answers but for words with an apostrophe or a space, and faster."""
    return _substituted(re.compile(r"\b\w+\b"), dictionary_words())


def published_dictionary() -> Method:
    """The same with the published word pairs of GN-GloVe, where they are among the data."""
    folder = data_dir() / "cda-word-pairs"
    masculine, feminine = (
        (folder / f"gn_glove_{gender}.txt").read_text(encoding="utf-8").lower().split() for gender in ("male", "female")
    )
    partners = dict(zip(masculine, feminine, strict=True)) | dict(zip(feminine, masculine, strict=True))
    partners |= {"he": "she", "she": "he", "him": "her", "his": "her", "her": "his", "hers": "his"}
    return _substituted(re.compile(r"\b\w+\b"), partners | {"himself": "herself", "herself": "himself"})


def _substituted(pattern: re.Pattern[str], partners: Mapping[str, str]) -> Method:
    def swapped(match: re.Match[str]) -> str:
        word = match.group()
        partner = partners.get(word.lower())
        if partner is None:
            return word
        if word.isupper() and len(word) > 1:
            return partner.upper()
        return partner[0].upper() + partner[1:] if word[0].isupper() else partner

    def answers(texts: Sequence[str], options: Mapping[str, Any]) -> list[Answer]:
        del options
        return [(pattern.sub(swapped, text),) for text in texts]

    return answers


def fairlangproc(pairs: Callable[[], Mapping[str, str]]) -> Method:
    """FairLangProc's CDA of a batch with bidirectional=False: the transformed text in place of the original."""
    from FairLangProc.algorithms import preprocessors

    words = dict(pairs())

    def answers(texts: Sequence[str], options: Mapping[str, Any]) -> list[Answer]:
        del options
        return [(text,) for text in preprocessors.CDA({"text": list(texts)}, pairs=words, bidirectional=False)["text"]]

    return answers


def fairlangproc_words() -> Mapping[str, str]:
    """The word pairs that FairLangProc ships and loads by name."""
    level = logging.getLogger().level
    from FairLangProc.datasets import BiasDataLoader

    logging.getLogger().setLevel(level)  # it switches on all libraries' messages
    return dict(BiasDataLoader("WinoBias", config="pairs", format="raw")["data"])


def langfair() -> Method:
    """LangFair's create_prompts: a masculine and a feminine text of each prompt that has a gender word."""
    _show_nltk_its_data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langfair.generator import CounterfactualGenerator

        generator = CounterfactualGenerator()

    def answers(texts: Sequence[str], options: Mapping[str, Any]) -> list[Answer]:
        del options
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                found = generator.create_prompts(prompts=list(texts), attribute="gender")
        except AssertionError:  # it refuses a batch without any gender word
            return [(text,) for text in texts]
        # What it returns are the prompts with a gender word, in order.
        made = iter(zip(found["original_prompt"], found["male_prompt"], found["female_prompt"], strict=True))
        given: list[Answer] = []
        following = next(made, None)
        for text in texts:
            if following is not None and following[0] == text:
                given.append(following[1:])
                following = next(made, None)
            else:
                given.append((text,))
        return given

    return answers


def _show_nltk_its_data() -> None:
    """NLTK's sentence splitter needs data that its package lacks; llama-index-core ships them."""
    try:
        spec = importlib.util.find_spec("llama_index.core")
    except ModuleNotFoundError:
        return
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "_static" / "nltk_cache"
        os.environ["NLTK_DATA"] = os.pathsep.join(filter(None, (os.environ.get("NLTK_DATA"), str(folder))))


METHODS: dict[str, tuple[str, Callable[[], Method]]] = {  # the module that must be there, and what makes the method
    FAIRTEST: ("fairtest", fairtest),
    DICTIONARY: ("fairtest", dictionary),
    BY_WORD: ("fairtest", dictionary_by_word),
    "dictionary swap, GN-GloVe's words": ("fairtest", published_dictionary),
    "fairlangproc, its words": ("FairLangProc", lambda: fairlangproc(fairlangproc_words)),
    "fairlangproc, dictionary's words": ("FairLangProc", lambda: fairlangproc(dictionary_words)),
    "langfair": ("langfair", langfair),
}


def made(name: str) -> Method | str:
    """The method, or why it is not there."""
    module, make = METHODS[name]
    if importlib.util.find_spec(module) is None:
        return "not installed"
    try:
        return make()
    except FileNotFoundError:
        return "no data"
    except (ImportError, LookupError) as error:  # LookupError: NLTK's, whose data are not there
        return f"not installed: {str(error).strip().splitlines()[0]}"
