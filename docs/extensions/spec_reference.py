"""The reference of the spec, made from the declarations of its fields when the pages are built.

`{spec-fields} model` lists every field of a section, `{spec-fields} file` those that stand at the top of a file, and
`{paper-leaves-open}` is the table of what the paper leaves open.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from hvae_spec.spec.reference import FieldRow, left_open_table, rows

AFFECTS = {
    "trajectory": "",  # what a field affects if nothing else is said
    "schedule": "It affects training through the epoch's value of a schedule.",
    "length": "It affects how long training is, not its steps.",
    "evaluation": "It affects the final evaluation, not training.",
    "nothing": "It affects no number of a result.",
}


class SpecFields(SphinxDirective):
    """The fields of one section, in the order of their declaration."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """One entry per field."""
        section = self.arguments[0]
        found = [row for row in rows() if _section(row) == section]
        if not found:
            raise self.error(f"no section {section!r} in a spec")
        return self.parse_text_to_nodes("\n".join(map(_entry, found)))


class PaperLeavesOpen(SphinxDirective):
    """The fields that the paper does not settle, or that the authors' code sets to something else."""

    def run(self) -> list[nodes.Node]:
        """The table."""
        return self.parse_text_to_nodes(left_open_table())


def _section(row: FieldRow) -> str:
    section, dot, _ = row.path.partition(".")
    return section if dot else "file"


def _entry(row: FieldRow) -> str:
    default = "required" if row.default == "required" else f"default: {row.default}"
    facts = [
        f"The paper: {row.paper}." if row.paper else "",
        f"The authors' code: {row.authors}." if row.authors else "",
        AFFECTS.get(row.affects, ""),
        "Members of one pack may differ in it." if row.per_member else "",
    ]
    lines = [f"*{row.type}; {default}*", "", row.description, "", " ".join(filter(None, facts))]
    return f"`{row.path}`\n: " + "\n  ".join(lines).rstrip() + "\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("spec-fields", SpecFields)
    app.add_directive("paper-leaves-open", PaperLeavesOpen)
    return {"parallel_read_safe": True}
