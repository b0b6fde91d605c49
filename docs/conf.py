"""The site: these pages, and a reference made from the code; `make docs`, without a network.

The pages are Markdown, to be read as they are, too. What only a site needs is here and in site/.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "site"))

from muxcore import __version__ as release

project = "muxcore"
author = "The muxcore authors"
project_copyright = author
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "commands",
    "contents",
    "engines_table",
    "links",
    "marks",
    "names",
]
exclude_patterns = ["site"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
smartquotes_action = "D"  # dashes: quotes are those of code, often

# -- the reference

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # fields are told of once, by the class
python_use_unqualified_type_names = True
# Nobody's pages but ours are linked to: that would take a network.
nitpick_ignore_regex = [("py:.*", r"(?!muxcore\.).*")]
# Types of signatures that have no page: nobody makes one, or it is a type variable.
nitpick_ignore_regex += [
    ("py:.*", r"muxcore\.(aio\.inbox\.Inbox|pool\.Upstream|testing\.upstream\.Upstream)"),
    ("py:.*", r"muxcore\.services\.relay\.access_log\.Record"),
    ("py:.*", r"muxcore\..*\.T"),
]

# -- how it looks

html_theme = "furo"
html_title = f"muxcore {release}"
html_copy_source = False
html_show_sourcelink = False
