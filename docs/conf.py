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
suppress_warnings = ["myst.xref_missing"]  # links to the code, which is not part of the site
default_role = "code"  # docstrings have one backtick around names

html_theme = "furo"
html_title = f"prunetune {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 90  # longer ones have a line for each parameter
toc_object_entries_show_parents = "hide"
napoleon_google_docstring = False
nitpicky = False
