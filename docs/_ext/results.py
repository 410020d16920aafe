"""The directive ``results``: the Markdown pages that measurements have left in a folder, or the words that none has.

```{results} ../../benchmarks/results
Not run yet: ...
```
"""

from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class Results(SphinxDirective):
    """Include every ``*.md`` of a folder, in the order of their names; without any, the content."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Return the parsed pages."""
        _, folder = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(folder)
        pages = sorted(self.env.srcdir.joinpath(folder).glob("*.md"))
        if pages:
            lines = [line for page in pages for line in _include(f"{self.arguments[0]}/{page.name}")]
            self.content = StringList(lines, source=self.get_source_info()[0])
        return self.parse_content_to_nodes(allow_section_headings=True)


def _include(path: str) -> list[str]:
    return [
        f"```{{include}} {path}",
        ":heading-offset: 1",
        ":relative-images:",
        "```",
        "",
    ]


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("results", Results)
    return {"parallel_read_safe": True}
