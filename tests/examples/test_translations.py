"""Translations."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager

import pytest

from tests.clients.plain import Namespace
from tests.examples.internet import STRINGS
from tests.examples.running import App, Site, until


def running(site: Site, form: str, project: str, key: str = "") -> AbstractContextManager[App]:
    """Run the example on a project of the service."""

    def variables(spaces: Mapping[str, Namespace]) -> dict[str, str]:
        access = site.access
        return {
            "SERVICE": site.internet,
            "PROJECT": project,
            "BULK_URL": f"{access.api}{spaces['TRANSLATIONS'].path}/bulk",
            "EMAIL": access.email,
            "KEY": key or access.key,
        }

    return site.running(form, "translations", "TRANSLATIONS", variables=variables)


@pytest.fixture(scope="module")
def app(site: Site, form: str) -> Iterator[App]:
    """Run it on a project that the service knows."""
    with running(site, form, "site") as app:
        yield app


def page(title: str, intro: str, outro: str) -> str:
    """Return what the page shows."""
    return f'<h1>{title}</h1><p id="intro">{intro}</p><p id="outro">{outro}</p>'


def test_all_texts_are_fetched_and_shown(app: App) -> None:
    """Also to who looked before: then there were none, and the names stood in their place."""
    assert page("title", "intro", "outro") in app.fetch("/?lang=de").text

    said = app.fetch("/translate")

    assert (said.status, said.text) == (200, "5 texts stored")
    names = {f"{name}.{language}" for language, texts in STRINGS.items() for name in texts}
    assert set(app.spaces["TRANSLATIONS"].names()) == names
    german = until(lambda: app.fetch("/?lang=de"), lambda answer: "Die Zeit" in answer.text)
    assert '<html lang="de">' in german.text
    assert german.headers["content-type"] == "text/html; charset=utf-8"


def test_an_empty_text_is_a_text(app: App) -> None:
    """It is shown as it is; one that is missing is shown in English. Characters stay characters."""
    app.fetch("/translate")

    german = until(lambda: app.fetch("/?lang=de").text, lambda text: "Die Zeit" in text)

    assert page("Die Zeit &#38; mehr", "", "Good night") in german.replace("&amp;", "&#38;")


@pytest.mark.parametrize("query", ["", "?lang=en", "?lang=tlh", "?lang=%22%3E%3Cscript%3E"])
def test_english_is_for_everybody_else(app: App, query: str) -> None:
    """And nothing of the question gets into the page."""
    app.fetch("/translate")

    english = until(lambda: app.fetch(f"/{query}").text, lambda text: "The" in text)

    shown = english.replace("&lt;", "&#60;").replace("&gt;", "&#62;")
    assert page("The &#60;b&#62;Times&#60;/b&#62;", "All the news", "Good night") in shown
    assert '<html lang="en">' in english
    assert "<script>" not in english


@pytest.mark.parametrize(("project", "key"), [("gone", ""), ("site", "wrong")])
def test_what_fails_is_said(site: Site, form: str, project: str, key: str) -> None:
    """With a status, and nothing is stored."""
    with running(site, form, project, key) as app:
        said = app.fetch("/translate")

        assert said.status == 502
        assert ("service answered 404" if project == "gone" else "not be stored: 40") in said.text
        assert app.spaces["TRANSLATIONS"].names() == []
