"""Sphinx: `make docs` builds the site from the repository, with warnings as errors."""

from __future__ import annotations

import prunetune

project = "prunetune"
author = "the prunetune authors"
copyright = author
version = release = prunetune.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
suppress_warnings = ["myst.xref_missing"]  # links to the code, which is not part of the site, see `_links`
default_role = "code"  # docstrings have one backtick around names

html_theme = "furo"
html_title = f"prunetune {release}"
html_static_path: list[str] = []

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_mock_imports: list[str] = []
napoleon_google_docstring = False
nitpicky = False
