"""The sentences of the page: the same in every language, one for every error, none for nothing."""

import json
import re
from itertools import chain
from pathlib import Path

import pytest

from wsgi_store.errors import BY_CODE
from wsgi_store.web import page_answers
from wsgi_store.web.page_text import FOLDER, LANGUAGES

# CLDR 48, cardinal numbers.
FORMS = {"en": {"one", "other"}, "ru": {"one", "few", "many", "other"}}
SENTENCES = {
    language: json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8")) for language in LANGUAGES
}
SOURCE = {
    path.name: path.read_text(encoding="utf-8")
    for path in [*FOLDER.glob("*.html"), *FOLDER.glob("*.js"), Path(page_answers.__file__)]
}
VALUE = re.compile(r"\{(\w+)\}")
# Sentences whose keys the scripts make of a code, a reason or a state.
MADE = ("error", "refused", "state")


def forms(sentence: object) -> dict[str, str]:
    """The forms of a sentence by their names."""
    return sentence if isinstance(sentence, dict) else {"other": str(sentence)}


def test_languages_have_the_same_sentences() -> None:
    """Both languages have the same keys, and the same of them depend on a number."""
    first, *others = SENTENCES.values()
    for other in others:
        assert other.keys() == first.keys()
        for key, sentence in first.items():
            assert isinstance(other[key], dict) == isinstance(sentence, dict), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_plural_sentences_have_each_form_of_the_language(language: str) -> None:
    """A sentence with a number has each plural form."""
    for key, sentence in SENTENCES[language].items():
        if isinstance(sentence, dict):
            assert sentence.keys() == FORMS[language], key


def test_sentences_take_the_same_values_in_each_language() -> None:
    """Each language has the same places for values."""
    for key in SENTENCES["en"]:
        taken = [
            set(VALUE.findall(form))
            for language in LANGUAGES
            for form in forms(SENTENCES[language][key]).values()
        ]
        # "The file is stored" needs no number.
        assert all(one - {"count"} == taken[0] - {"count"} for one in taken), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_is_empty_or_has_markup(language: str) -> None:
    """Sentences are plain text."""
    for key, sentence in SENTENCES[language].items():
        for form in forms(sentence).values():
            assert form.strip() == form != "", key
            assert not re.search(r"[<>&]|  ", form), key


def test_russian_dashes_begin_no_line() -> None:
    """A dash stays beside the word before it, and quotation marks are those of Russian."""
    for key, sentence in SENTENCES["ru"].items():
        for form in forms(sentence).values():
            assert not re.search(r" [—–]|[\"“”]", form), key


def test_every_error_has_a_sentence_and_what_to_do() -> None:
    """Errors of the service and of the page say what happened and what to do."""
    raised = set(
        chain.from_iterable(re.findall(r'new Problem\(\s*"(\w+)"', text) for text in SOURCE.values())
    )
    for code in BY_CODE.keys() | raised:
        for part in ("what", "next"):
            assert f"error.{code}.{part}" in SENTENCES["en"], code


def test_every_sentence_of_an_error_belongs_to_one() -> None:
    """No sentence is left of an error that is gone."""
    told = {key.split(".")[1] for key in SENTENCES["en"] if key.startswith("error.")}
    named = {code for code in told if any(f'"{code}"' in text for text in SOURCE.values())}
    assert told - BY_CODE.keys() == named - BY_CODE.keys()


def keys_in(text: str) -> set[str]:
    """The keys that a file has as literals, or makes of a beginning and a literal."""
    found = set(re.findall(r"""["'`]([a-z]+\.[a-z_]+)["'`]""", text))
    for beginning in re.findall(r"`([a-z]+\.)\$\{\w+\}`", text):
        found |= {f"{beginning}{end}" for end in re.findall(r'"([a-z_]+)"', text)} & SENTENCES["en"].keys()
    return found


def test_every_sentence_is_used_and_every_one_used_is_there() -> None:
    """Nothing is translated for nothing, and nothing is shown as a key."""
    known = {key for key in SENTENCES["en"] if not key.startswith(MADE)}
    spaces = {key.partition(".")[0] for key in known}
    used = set(chain.from_iterable(map(keys_in, SOURCE.values())))
    assert {key for key in used if key.partition(".")[0] in spaces} - SOURCE.keys() == known


def test_each_state_of_an_upload_has_a_word() -> None:
    """Every state that has a picture has a word."""
    drawn = re.search(r"const ICONS = \{(.*?)\}", SOURCE["upload-row.js"], re.DOTALL)
    assert drawn
    states = set(re.findall(r"(\w+):", drawn[1]))
    assert states == {key.removeprefix("state.") for key in SENTENCES["en"] if key.startswith("state.")}


def test_page_preloads_every_module_that_it_runs() -> None:
    """Without that, a module would be asked for when those that import it have arrived."""
    preloaded = re.findall(r'rel="modulepreload" href="\{\{files\}\}([\w.-]+)"', SOURCE["index.html"])
    scripts = {name for name in SOURCE if name.endswith(".js")}
    assert preloaded == sorted(scripts - {"main.js", "hash-worker.js"})
