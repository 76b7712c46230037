"""What README.md and the pages of docs/ show is so: error messages, options of commands, links, versions."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

import hvae_spec
from tests.command_lines import COMMANDS, parser_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FAULTY = re.compile(r"<!-- faulty: (\S+) -->\n```yaml\n(.*?)```\n\ngives\n\n```text\n(.*?)```", re.DOTALL)


def pages_with(pattern):
    found = [(path, match) for path in PAGES for match in re.finditer(pattern, path.read_text())]
    assert found
    return [pytest.param(path, *match.groups(), id=f"{path.stem}: {match[0]}") for path, match in found]


def test_the_messages_about_a_faulty_spec_are_those_shown():
    name, text, shown = FAULTY.search((ROOT / "docs/spec/by_example.md").read_text()).groups()
    with pytest.raises(hvae_spec.SpecError) as caught:
        hvae_spec.loads(text, name)
    assert f"{caught.value}\n" == shown


@pytest.mark.parametrize(("page", "module", "arguments"), pages_with(r"python -m ((?:tune|analysis)\.\w+) ([^`\n#]*)"))
def test_the_options_of_a_command_exist(page, module, arguments):
    known = {option for action in parser_of(COMMANDS[module])._actions for option in action.option_strings}
    used = {word.split("=")[0] for word in shlex.split(arguments) if word.startswith("--")}
    assert used <= known


@pytest.mark.parametrize(("page", "target"), pages_with(r"\]\(((?!http)[^)#]+)[^)]*\)"))
def test_a_link_leads_to_a_file(page, target):
    assert (page.parent / target).exists()


def test_every_page_is_in_a_table_of_contents():
    """Sphinx says so too, but only where it is installed."""
    listed = set()
    for index in (ROOT / "docs").rglob("index.md"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", index.read_text(), re.DOTALL):
            listed |= {index.parent / f"{line}.md" for line in block.split("\n") if line and not line.startswith(":")}
    assert listed == set((ROOT / "docs").rglob("*.md")) - {ROOT / "docs/index.md"}


def test_version_changelog_and_citation_agree():
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert newest == citation["version"] == hvae_spec.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "hvae_spec.__version__"}
    assert project["project"]["license"] == citation["license"]
