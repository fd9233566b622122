# SPDX-License-Identifier: Apache-2.0
"""How Sphinx makes the site: sphinx-build -W --keep-going -n docs build/docs/html.

It needs doxygen on PATH, the dependency group "docs", and the package installed; no network.
"""

import os
import re
import subprocess
from pathlib import Path

from docutils import nodes
from dynamo_llm.paths import include_dir
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import ConfigError
from sphinx.transforms import SphinxTransform

here = Path(__file__).resolve().parent
include = here.parent / "include"
header = (include / "dynamo_llm.h").read_text()

project = "dynamo-llm"
author = "the dynamo-llm authors"
release = version = re.search(r'#define DYNAMO_LLM_VERSION_STRING "(.*)"', header)[1]  # type: ignore[index]

# The comments of the installed headers, read by Doxygen; a warning of it ends the build.
xml = here.parent / "build" / "docs" / "doxygen"
xml.mkdir(parents=True, exist_ok=True)
doxygen = subprocess.run(
    ["doxygen", "Doxyfile"],
    cwd=here,
    env={**os.environ, "DYNAMO_LLM_INCLUDE": str(include_dir()), "DOXYGEN_OUTPUT": str(xml)},
    check=False,
    timeout=120,
)
if doxygen.returncode != 0:
    raise ConfigError("doxygen reported errors in the comments of the headers: see above")
# Doxygen does not report a command that it takes for text, as in comments whose lines are not aligned.
for file in sorted((xml / "xml").glob("*.xml")):
    if unread := re.search(r"@(brief|file|name|par|param|return)\b.*", file.read_text()):
        raise ConfigError(f"doxygen took a command of a header's comment for text: {unread[0]} ({file.name})")

extensions = ["breathe", "myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["snippets", "reference/names-*.md"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

breathe_projects = {"dynamo-llm": str(xml / "xml")}
breathe_default_project = "dynamo-llm"
breathe_domain_by_extension = {"h": "c", "hpp": "cpp"}
breathe_show_include = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"

# Longer signatures have one parameter on each line.
maximum_signature_line_length = 80

# A copy button for code, not for what programs print.
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"

# References that cannot be resolved are warnings. These names are other projects'.
nitpick_ignore_regex = [
    (r"c:identifier", r"u?int(8|32|64)_t|size_t"),
    (r"cpp:identifier", r"std(::.*)?|u?int(8|32|64)_t|size_t|dynamo_[a-z_]+|DYNAMO_[A-Z_]+|Handle|Number"),
    (r"py:class", r"(collections|pathlib|typing|asyncio|types|os)\..*"),
    # Imported for type checkers only.
    (r"py:class", r"Sink"),
    # Type variables, and what docstrings mention that is not part of this reference.
    (r"py:class", r"dynamo_llm\.api\.\w+\.(Self|Result)"),
    (r"py:(func|attr)", r"dynamo_llm\.runtime\.options\.read|details"),
]

html_theme = "furo"
html_logo = html_favicon = "logo.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_title = f"dynamo-llm {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
toc_object_entries_show_parents = "hide"
pygments_style = "friendly"
pygments_dark_style = "monokai"


class LinkFunctions(SphinxTransform):
    """Links ``dynamo_...()`` in the text of a page to the reference."""

    default_priority = 400
    functions = frozenset(
        re.findall(
            r"^DYNAMO_LLM_API [^;(]*?(dynamo_\w+)\(", "".join(map(Path.read_text, include.rglob("*.h"))), re.M
        )
    )

    def apply(self, **_: object) -> None:
        """Links the functions of one page."""
        for literal in list(self.document.findall(nodes.literal)):
            name, parentheses, rest = literal.astext().partition("()")
            if name not in self.functions or not parentheses or rest:
                continue
            if isinstance(literal.parent, nodes.title | nodes.reference | addnodes.pending_xref):
                continue
            link = addnodes.pending_xref(
                refdomain="c", reftype="func", reftarget=name, refdoc=self.env.docname, refexplicit=True
            )
            literal.replace_self(link)
            link += literal


def setup(app: Sphinx) -> None:
    """Adds the transform to Sphinx."""
    app.add_transform(LinkFunctions)
