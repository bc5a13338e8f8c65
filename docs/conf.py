"""Configure Sphinx for the documentation site: `nox -s docs` builds it."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform

import forebay

project = "forebay"
author = "The forebay maintainers"
release = forebay.__version__
html_title = f"forebay {release}"

smartquotes = False  # a command can be copied as it is

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
root_doc = "index"
source_suffix = {".md": "markdown"}
exclude_patterns = ["_templates", ".pytest_cache"]
nitpicky = True
nitpick_ignore_regex = [
    # Other projects: the build reads nothing from the network, so their names are not links.
    (
        "py:.*",
        r"(anyio|collections|contextlib|datetime|opentelemetry|os|pathlib|sqlite3|ssl|trio)\..*",
    ),
    # Types in annotations: private ones, and what Sphinx makes of `tuple[int, ...]`. Public ones
    # are found, since the checks compare the inventory with the public names.
    ("py:class", r"forebay\..+"),
    ("py:class", r"tuple\[int"),
    # Type variables.
    ("py:.*", r"(forebay\..*\.)?(P|R|T|Ts)(\.(args|kwargs))?"),
]
default_role = "literal"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
templates_path = ["_templates"]
pygments_style = "default"
pygments_dark_style = "monokai"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {
    "members": True,
    "inherited-members": "BaseException,Enum,Mapping,dict,tuple",
}
autodoc_preserve_defaults = True
maximum_signature_line_length = 76
napoleon_use_ivar = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

MODULES = (
    "forebay",
    "forebay.cache",
    "forebay.cli",
    "forebay.dead_letters",
    "forebay.doctor",
    "forebay.monitoring",
    "forebay.otlp",
    "forebay.sqlite",
    "forebay.stores",
    "forebay.stores.clickhouse",
    "forebay.stores.sqlite",
    "forebay.testing",
)
"""The modules that a program may import. Their `__all__` is the public API."""


def public_names() -> Iterator[tuple[str, object]]:
    """Yield each public name by its import path, with what it names."""
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)


def defined_names() -> dict[str, str]:
    """Return where each public class or function is defined, with the shortest public name."""
    defined: dict[str, str] = {}
    for name, value in sorted(public_names(), key=lambda pair: len(pair[0])):
        if inspect.isclass(value) or inspect.isfunction(value):
            defined.setdefault(f"{value.__module__}.{value.__qualname__}", name)
    return defined


DEFINED = defined_names()


def without_ranges() -> None:
    """Show the type of an option without the range that its annotation has for the check."""
    for _, value in public_names():
        if inspect.isclass(value) and issubclass(value, forebay.Options):
            value.__init__.__annotations__ = get_type_hints(value.__init__)


def restore_sentence(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Restore a sentence such as "The reason: …", whose beginning Napoleon takes for a type."""
    del app, name, value, options
    if what in {"attribute", "data", "property"} and lines and lines[-1].startswith(":type: "):
        beginning = lines.pop().removeprefix(":type: ")
        lines[0] = f"{beginning}: {lines[0]}"


def shorten_types(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Show the type of an attribute by its last name, as in a signature, not by its module."""
    del app, what, name, value, options
    for number, line in enumerate(lines):
        if line.startswith(":vartype "):
            lines[number] = re.sub(r"(?<![\w.~])(?=[a-z]\w*\.)", "~", line)


def show_signature(
    app: Sphinx, what: str, name: str, value: Any, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """Show a context manager as what `async with` takes, and no constructor that is private."""
    del app, name, options
    yields = re.fullmatch(r"~?[\w.]*\bAsyncGenerator\[(.*), None\]", returns or "")
    if yields and not inspect.isasyncgenfunction(value):
        return (signature, f"~contextlib.AbstractAsyncContextManager[{yields[1]}]")
    if what == "class" and signature:
        types = re.findall(r"forebay\.[\w.]+", signature)
        if any(name not in DEFINED for name in types):
            return ("", "")
        return (signature.replace("<factory>", "..."), returns)
    return None


def resolve_private_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Resolve an annotation that names a public class by the private module that defines it."""
    public = DEFINED.get(node.get("reftarget", ""))
    if public is None:
        return None
    domain = env.domains["py"]
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, content)


def show_examples(app: Sphinx, page: str, source: list[str]) -> None:
    """Let the page of the examples have their README and their programs, which GitHub links."""
    if page != "examples":
        return
    folder = Path(app.srcdir).parent / "examples"
    text = (folder / "README.md").read_text()
    text = text.replace("](build_cache/__main__.py)", "](build-cache.md)")
    text = re.sub(r"\]\((\w+)\.py\)", r"](#\1py)", text)
    text = text.replace("](../docs/", "](")
    for program in sorted(folder.glob("*.py")):
        text += f"\n## {program.name}\n\n```python\n{program.read_text()}```\n"
        app.env.note_dependency(program)
    app.env.note_dependency(folder / "README.md")
    source[0] = text


def name_other_files(app: Sphinx, page: str, source: list[str]) -> None:
    """Name a file outside the site, to which GitHub shows a link."""
    del app, page

    def name(link: re.Match[str]) -> str:
        return link[1] if link[2] in link[1] else f"{link[1]} (`{link[2]}`)"

    source[0] = re.sub(r"\[([^\]]+)\]\((?:\.\./)+([^)]+)\)", name, source[0])


def show_help(app: Sphinx, context: object, lines: list[str]) -> None:
    """Show the examples and the exit codes of a command as they are, and its other text too."""
    del app, context
    shown: list[str] = []
    for line, before in zip(lines, ["", *lines], strict=False):
        if not line.startswith("| "):
            shown.append(line.replace("\\", r"\\"))
        elif not before.startswith("| "):
            shown += [line.removeprefix("| "), "", ".. code-block:: text", ""]
        else:
            shown.append("   " + line.removeprefix("| "))
    lines[:] = shown


def show_options(app: Sphinx, context: object, lines: list[str]) -> None:
    """Restore what sphinx-click takes away from the end of `A[:B]`, and show backslashes."""
    del app, context
    for number, line in enumerate(lines):
        if line.startswith(".. option::"):
            lines[number] = re.sub(r"(<[^\]>]*\[[^\]>]*)>", r"\1]>", line)
        elif ":default:" not in line:
            lines[number] = line.replace("\\", r"\\")


class LinkPublicNames(SphinxPostTransform):  # type: ignore[misc]
    """Link a public name in a text, such as `forebay.Table` or `Buffer.get`, to its reference."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        """Link the literals of one page."""
        domain = self.env.domains["py"]
        objects = domain.data["objects"]
        module = self.env.docname.replace("api/", "forebay.")  # the module of a page of the API
        for literal in list(self.document.findall(nodes.literal)):
            name = re.sub(r"\(.*\)$", "", literal.astext())
            if isinstance(literal.parent, nodes.reference | nodes.title | pending_xref):
                continue
            names = (name, f"forebay.{name}", f"{module}.{name}")
            target = next((full for full in names if full in objects), None)
            if target is None:
                continue
            page = self.env.docname
            reference = domain.resolve_xref(
                self.env, page, self.app.builder, "obj", target, pending_xref(), literal.deepcopy()
            )
            if reference is not None:
                literal.replace_self(reference)


def setup(app: Sphinx) -> None:
    """Add what is above to Sphinx."""
    without_ranges()
    app.connect("autodoc-process-docstring", restore_sentence, priority=600)  # after Napoleon
    app.connect("autodoc-process-docstring", shorten_types, priority=600)
    app.connect("autodoc-process-signature", show_signature)
    app.connect("sphinx-click-process-description", show_help)
    app.connect("sphinx-click-process-options", show_options)
    app.connect("source-read", show_examples)
    app.connect("source-read", name_other_files)
    app.connect("missing-reference", resolve_private_name)
    app.add_post_transform(LinkPublicNames)
