"""Settings of the documentation site: `make docs`, or python -m sphinx -W -c docs . build/site

The sources are the Markdown files of the repository where they are, so that a link between two of them is right on a
code host and on the site. No part of a page comes from another host: furo uses the fonts of the reader's system.

EDGEREC_DOCS_INVENTORIES=1 fetches the inventories of Python, numpy and torch, so that types in signatures are links.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

gc.set_threshold(200_000, 50, 100)  # trees of millions of nodes, hardly any of which become garbage
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
# jsonschema would build 38 parsers of addresses on import, in seconds, for formats that no notebook has.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

import edgerec  # noqa: E402
from docs import extension  # noqa: E402

project = "EdgeRec"
author = "The EdgeRec authors"
release = version = edgerec.__version__
html_title = f"EdgeRec {release}"
language = "en"

extensions = [
    "myst_nb",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
]
root_doc = "docs/index"
include_patterns = [
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/index.md", "docs/*/*.md"),
    *("bench/README.md", "export/README.md", "devices/README.md", "devices/*/README.md", "tests/*/README.md"),
]
exclude_patterns = ["**/node_modules", "build", "demo", "dist", ".*"]

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["extra"]
html_show_sphinx = False
html_show_copyright = False
html_show_sourcelink = False  # llms.txt leads to the sources

myst_enable_extensions = ["colon_fence", "attrs_inline", "html_image"]
myst_heading_anchors = 6
nb_execution_mode = "cache"  # executed again only after a change
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
default_role = "code"  # `name` in docstrings

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }
    if os.environ.get("EDGEREC_DOCS_INVENTORIES") == "1"
    else {}
)

setup = extension.setup
