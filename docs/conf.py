"""How Sphinx makes the site out of these pages: `python -m sphinx -W -n docs build/docs`.

No page asks another host for anything, and the search needs no server: the site works from a folder, such as one on
CVMFS. That is why it is Sphinx: Zensical's search needs a server.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent

project = "mlviews"
html_title = "mlviews"
extensions = ["myst_parser"]
exclude_patterns = ["nightly-example"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_use_index = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5c8a", "color-brand-content": "#0b5c8a"},
    "dark_css_variables": {"color-brand-primary": "#6cb8e6", "color-brand-content": "#6cb8e6"},
}


def setup(app: Sphinx) -> None:
    app.connect("build-finished", copy_example)


def copy_example(app: Sphinx, error: Exception | None) -> None:
    """Lay the example of a nightly report beside the pages, which link to it."""
    if error is None:
        shutil.copytree(HERE / "nightly-example", Path(app.outdir, "nightly-example"), dirs_exist_ok=True)
