"""`{combinations}`: which choices of the language go together, two at a time, from `tests.combinations`."""

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from tests.combinations import OPTIONS, pairs, refusal


class Combinations(SphinxDirective):
    """How many pairs there are, and a row per pair that is refused."""

    def run(self) -> list[nodes.Node]:
        """A sentence and a table."""
        found = [(one, other, refusal(one, other)) for one, other in pairs()]
        refused = [(one, other, message) for one, other, message in found if message is not None]
        lines = [
            f"Of the {len(found):,} pairs of {len(OPTIONS)} options, {len(found) - len(refused):,} are trained, and "
            f"these {len(refused)} are refused:",
            "",
            "| this | with this | is refused, as |",
            "|:--|:--|:--|",
            *(
                f"| {one.choice}: {one.name} | {other.choice}: {other.name} | {message} |"
                for one, other, message in refused
            ),
            "",
            f"The options: {'; '.join(f'{option.choice}: {option.name}' for option in OPTIONS)}.",
        ]
        return self.parse_text_to_nodes(StringList(lines, source="tests/combinations.py"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("combinations", Combinations)
    return {"parallel_read_safe": True}
