"""The words of the page: its languages, its sentences, and the HTML that they are put into."""

import html
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from werkzeug.wrappers import Request as Fields

from wsgi_store.web.request import Request

FOLDER = Path(__file__).with_name("page")
LANGUAGES = ("en", "ru")
# Attributes that take a sentence; `data-text` is for what an element contains.
ATTRIBUTES = {"label": "aria-label", "hint": "placeholder", "title": "title"}
TAG = re.compile(r"<[a-z][^<>]* data-(?:text|label|hint|title)=[^<>]*>")
KEY = re.compile(r' data-(text|label|hint|title)="([a-z0-9_.]+)"')
PLACE = re.compile(r"\{\{(\w+)\}\}")

escaped = html.escape


def language_of(request: Request) -> str:
    """Return the language of a page: that of `?lang=`, else what the browser prefers, else English."""
    wanted = request.args.get("lang", "")
    return wanted if wanted in LANGUAGES else _preferred(request.listed("HTTP_ACCEPT_LANGUAGE"))


@lru_cache(len(LANGUAGES))
def sentences(language: str) -> dict[str, Any]:
    """Return the sentences of a language by their keys; one with a number in it is an object of its forms."""
    found: dict[str, Any] = json.loads((FOLDER / f"{language}.json").read_bytes())
    return found


def filled(name: str, language: str, values: Mapping[str, str]) -> str:
    """Return an HTML file with its sentences, and with `values`, which are HTML, at their places."""
    return PLACE.sub(lambda place: values[place[1]], _translated(name, language))


def embedded(document: str) -> str:
    """Return a JSON document that cannot end the `script` element around it."""
    return document.replace("<", "\\u003c")


@lru_cache(4 * len(LANGUAGES))
def _translated(name: str, language: str) -> str:
    words = sentences(language)

    def fill(tag: re.Match[str]) -> str:
        attributes = content = ""
        for where, key in KEY.findall(tag[0]):
            sentence = escaped(words[key])
            if where == "text":
                content = sentence
            else:
                attributes += f' {ATTRIBUTES[where]}="{sentence}"'
        return f"{tag[0][:-1]}{attributes}>{content}"

    source = (FOLDER / name).read_text(encoding="utf-8")
    return TAG.sub(fill, source.replace('<html lang="en"', f'<html lang="{language}"'))


# Browsers of one language send the same field.
@lru_cache(64)
def _preferred(accept: str) -> str:
    return Fields({"HTTP_ACCEPT_LANGUAGE": accept}).accept_languages.best_match(LANGUAGES, "en")
