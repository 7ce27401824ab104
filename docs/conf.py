"""How Sphinx builds these pages to a site: `make docs`."""

# pylint: disable=invalid-name,redefined-builtin
from sphinx.application import Sphinx

import wsgi_store

project = "wsgi_store"
author = "the authors of wsgi_store"
copyright = author
version = release = wsgi_store.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"wsgi_store {version}"

# Anchors as GitHub makes them, so that a link works in both.
myst_heading_anchors = 4

# Docstrings have code in single backticks, as Markdown does.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": True}
# Types of other projects, and type variables, are named without a link; every type of this one has to
# be described.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!wsgi_store\.).*"), ("py:.*", r"wsgi_store\..*\.[A-Z]")]

# Documents beside this directory, and the pages that include them.
OUTSIDE = {
    "../CHANGELOG.md": "changelog.md",
    "../SECURITY.md": "security.md",
    "../benchmarks/RESULTS.md": "results.md",
}


def _stay_inside(_: Sphinx, __: str, source: list[str]) -> None:
    for target, page in OUTSIDE.items():
        source[0] = source[0].replace(f"]({target}", f"]({page}")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _stay_inside)
