"""Sphinx makes the documentation site of the pages as they are: `make docs`.

Every warning is an error there: a link that leads nowhere, a page that `index.md` does not list.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

project = "Promoter"
copyright = "the authors of Promoter"
release = re.search(r'__version__ = "(.*)"', (ROOT / "promoter_core/__init__.py").read_text())[1]  # type: ignore[index]
version = ".".join(release.split(".")[:2])

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["examples/*/tests", "examples/*/.venv"]
nitpicky = True

# The anchors of headings are those of GitHub, so that a link works in both places.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
# The API pages repeat a word as a heading; what is ambiguous is linked by its anchor.
suppress_warnings = ["myst.header"]

html_theme = "furo"
html_title = f"Promoter {release}"
html_theme_options = {"navigation_with_keys": True}
html_copy_source = False
html_show_sphinx = False
highlight_language = "none"  # of a block that does not say
