"""Configuration of the documentation: `make docs` builds it into ``out/docs``."""

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import cbcore

project = "cbcore"
author = "The cbcore developers"
copyright = author  # noqa: A001
version = release = cbcore.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "results",
]
nitpicky = True
nitpick_ignore_regex = [("py:exc", r"\w+(, \w+)*")]  # Python's own exceptions, which "Raises" names

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # docstrings say kinds, shapes and ranges
autodoc_member_order = "bysource"
# Our own private base class is shown in the public ones; what the frameworks' base classes have is not.
autodoc_default_options = {
    "members": True,
    "inherited-members": "Module,Loss",
    "exclude-members": "extra_repr",
}
napoleon_use_param = False
napoleon_use_rtype = False

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"cbcore {version}"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["cbcore.css"]
html_js_files = ["search.js"]
html_copy_source = False
html_show_sphinx = False

# One file, kept beside its licence: nothing else is fetched, here or from elsewhere.
mathjax_path = "vendor/mathjax-3.2.2/tex-svg.js"
mathjax3_config: dict[str, Any] = {
    "loader": {"load": []},
    "tex": {"packages": {"[-]": ["autoload", "require"]}},
    "options": {"enableMenu": False},
}


def link_names(_app: Any, _what: str, name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Make `single backticks` in docstrings what they mean: a link to a public name, or code."""
    public = importlib.import_module(name.partition(".")[0]).__all__

    def replace(match: re.Match[str]) -> str:
        text = match[1]
        return f":py:obj:`{text}`" if text in public or text.startswith("cbcore") else f"``{text}``"

    lines[:] = [re.sub(r"(?<![`:])`([^`]+)`(?!`)", replace, line) for line in lines]


def setup(app: Any) -> None:
    """Connect what the settings above cannot say."""
    app.connect("autodoc-process-docstring", link_names)
