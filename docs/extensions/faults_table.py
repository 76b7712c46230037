"""`{faults}`: the table of injected faults, from what the campaigns of `tests.faults` wrote to `docs/faults`."""

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from tests.faults.outcome import read

HEAD = "| Injected | Trials | Survived | Lost | Survived means | Repeat with | Measured |"


class Faults(SphinxDirective):
    """One row per kind of fault."""

    def run(self) -> list[nodes.Node]:
        """A table."""
        lines = [HEAD, "|:--|--:|--:|--:|:--|:--|:--|"]
        for row in read():
            counts = f"{row.trials:,} | {row.survived:,} | {row.lost:,}"
            lines.append(f"| {row.injected} | {counts} | {row.meaning} | `{row.command}` | {row.day} |")
        return self.parse_text_to_nodes(StringList(lines, source="docs/faults"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("faults", Faults)
    return {"parallel_read_safe": True}
