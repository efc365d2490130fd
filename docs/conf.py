"""How Sphinx builds these pages: `make docs`. Nothing is fetched, and nothing that a page shows
lies elsewhere; a dead link, a missing anchor and an undocumented public name end the build."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import checks  # noqa: E402
import docstrings  # noqa: E402
import reference_pages  # noqa: E402

project = "bluestab"
author = "the authors of bluestab"
version = release = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"][
    "version"
]
html_title = f"bluestab {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_last_updated_fmt = None
pygments_style = "friendly"
pygments_dark_style = "native"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
default_role = "code"
nitpick_ignore_regex = [  # types of other packages: their inventories would have to be fetched
    ("py:.*", r"(pandas|pd|numpy|np|pathlib|collections|typing|matplotlib)\..*"),
    (
        "py:.*",
        r"(Path|Mapping|Sequence|Figure|Status|At|Any|StorePath|Literal|object|Columns|Axes)",
    ),
    ("py:.*", r"(str|int|float|bool|None|dataclass|Exception|At|bluestab\.core\..*)"),
]


def setup(app: Any) -> None:
    app.connect("builder-inited", lambda _: reference_pages.write(HERE / "reference"))
    app.connect("autodoc-process-docstring", docstrings.as_rst)
    app.connect("build-finished", checks.built)
