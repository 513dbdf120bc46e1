"""Configuration of Sphinx: `sphinx-build -W -n --keep-going docs build/docs`."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

project = "fgssl"
copyright = "fgssl authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "settings_page"]
exclude_patterns = ["README.md"]
html_theme = "furo"
html_title = "fgssl"

# Markdown: anchors of headings are link targets, and a link to a missing one is an error.
myst_heading_anchors = 4
myst_enable_extensions = ["deflist", "dollarmath"]

# Docstrings write code in single backticks, as Markdown does.
default_role = "code"
smartquotes = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# Classes in signatures lead nowhere: no inventory of torch is downloaded. Links in the text are py:obj, and checked.
nitpick_ignore_regex = [("py:(class|data|exc)", r".*")]


def setup(app: Any) -> None:
    """Escape globs in the help of options, which reStructuredText takes for emphasis."""

    def escape(app: Any, context: Any, lines: list[str]) -> None:
        lines[:] = [line.replace("/*", r"/\*") for line in lines]

    app.connect("sphinx-click-process-options", escape)
