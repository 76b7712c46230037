"""Names of variants that mean something elsewhere: to pandas, LaTeX, Markdown, HTML, matplotlib, and to no font."""

import io
import re
from html import unescape

import pandas as pd
import pytest
from matplotlib.text import Text

import analysis
from analysis import figures, report, tables
from analysis.figures.glyphs import drawable
from analysis.figures.style import escape_mathtext, wrap
from analysis.tables.rendering import escape_latex, escape_markdown
from hvae_spec.spec.yaml import inline

ODD = [
    "NA", "nan", "null", "None", "inf", "true", "1.0", "_hidden", r"$\alpha$_1", "β = ½ × σ²", r"100% & more_#~^\{x}",
    "基线", "🚀", "=1+1", "-", "<b>", r"a\$b", "no", "a|b", "[x](y)", "&lt;", "`x`", "*a*", "a--b", "~~x~~", "VAE",
    "vae",
]  # fmt: skip


@pytest.fixture
def frames(results, small_spec):
    """A grid of finished members of odd names; the n-th has a likelihood of -80 - n, on average over seeds."""
    head = small_spec[: small_spec.index("  variants:")]
    variants = ", ".join(f"{inline(one)}: {{training.batch_size: {32 + place}}}" for place, one in enumerate(ODD))
    spec = f"{head}  variants: {{{variants}}}\n  seeds: [0, 1]\nreport: {{layout: {{x: depth, color: variant}}}}\n"
    likelihood = {one: -80.0 - place for place, one in enumerate(ODD)}
    results.grid(lambda m: results.result(m, likelihood[m.labels["variant"]] + m.seed - 0.5), spec=spec)
    return analysis.load(results.root)


def test_names_are_text_in_frames_and_in_csv_files_read_as_documented(frames):
    assert frames.members["variant"].tolist() == [one for one in ODD for _ in range(2)]
    assert set(frames.epochs["variant"]) == set(frames.units["variant"]) == set(ODD)
    text = frames.members.to_csv(index=False)
    names = {"dataset": str, "variant": str}
    read = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""], dtype=names)
    assert read["variant"].tolist() == frames.members["variant"].tolist()
    assert read["divergence_epoch"].isna().all()
    assert read["test_log_likelihood"].tolist() == frames.members["test_log_likelihood"].tolist()


def test_every_format_of_a_table_has_every_name_and_its_number(frames):
    (table,) = tables.log_likelihood(frames).tables
    assert table.columns == tuple(ODD)
    assert [cell.mean for cell in table.cells.values()] == [-80.0 - place for place in range(len(ODD))]
    markdown = tables.markdown([table])
    heading = next(line for line in markdown.split("\n") if line.startswith("|"))
    assert re.split(r"(?<!\\)\|", heading)[2].strip() == "NA"
    assert len(re.split(r"(?<!\\)\|", heading)) == len(ODD) + 3
    page = tables.html_table(table)
    assert [unescape(name) for name in re.findall('<th scope="col">(.*?)</th>', page)[1:]] == ODD
    latex = tables.latex([table], "t")
    body = [line for line in latex.split("\n") if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(ODD)}
    assert latex.startswith("% \\usepackage{booktabs}\n% 基 线 🚀: LuaLaTeX or XeLaTeX, and a font that has them\n")


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        (r"$\alpha$_1", r"\$\textbackslash{}alpha\$\_1"),
        ("β = ½ × σ²", r"$\beta$ = ½ $\times$ $\sigma$²"),
        ("Ωλω", r"$\Omega$$\lambda$$\omega$"),
        (r"100% & more_#~^\{x}", r"100\% \& more\_\#\textasciitilde{}\textasciicircum{}\textbackslash{}\{x\}"),
        ("a--b---c - d–e", "a-{}-b-{}-{}-c - d--e"),
        ("−1", "$-$1"),
    ],
)
def test_latex_shows_a_name_as_it_is(text, latex):
    assert escape_latex(text) == latex


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("[x](y)", r"\[x](y)"),
        ("[a] 3", "[a] 3"),
        ("&lt; & &#60;", r"\&lt; & \&#60;"),
        ("$x$ ~~y~~", r"\$x\$ \~\~y\~\~"),
        ("a|b_*`<c>\\", r"a\|b\_\*\`\<c\>" + "\\\\"),
    ],
)
def test_markdown_shows_a_name_as_it_is(text, markdown):
    assert escape_markdown(text) == markdown


def test_the_tenth_layer_is_a_subscript_of_two_digits_in_latex():
    table = tables.Table("Active units", "x", "layer", ("z_1", "z_10", "[x", "*", "z_x"), (), {}, ())
    rows = [line.split(" ")[0] for line in tables.latex([table], "t").split("\n") if line.endswith(r"\\")][1:]
    assert rows == ["$z_1$", "$z_{10}$", "{}[x", "{}*", r"z\_x"]


def test_what_a_font_lacks_is_shown_by_its_code_points():
    assert drawable("β = ½ × σ²") == "β = ½ × σ²"
    assert drawable("基线 a\n🚀") == "[U+57FA U+7EBF] a\n[U+1F680]"
    assert escape_mathtext("$基$") == r"\$[U+57FA]\$"
    assert wrap("基 abcdefghijkl") == "[U+57FA]\nabcdefghijkl"


def test_legends_have_every_name(frames):
    figure = figures.FIGURES["log_likelihood"](frames)
    figure.draw_without_rendering()
    shown = {text.get_text().replace(r"\$", "$") for legend in figure.legends for text in legend.findobj(Text)}
    assert {drawable(one) for one in ODD} <= shown


@pytest.mark.slow
def test_a_report_of_odd_names(frames, results):
    """Warnings are errors here, those of glyphs that are missing among them."""
    assert len(frames.members) == 2 * len(ODD)
    found = report.write(results.root)
    assert {path.suffix for path in found.files} == {".md", ".csv", ".tex", ".png", ".pdf", ".html"}
