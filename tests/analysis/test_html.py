import base64
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

import analysis
from analysis import report, tables
from analysis.html import page as html_page
from analysis.html import run_info
from analysis.html.architectures import models
from analysis.html.elements import typeset
from hvae_spec.records.result import EvaluationResult, TrainingResult

VOID = {"meta", "img", "br"}
SKIPPING = """
name: skipping
data: {dataset: digits}
model: {layers: [{units: 2, mlp: [5]}, {units: 2, mlp: [5]}, {units: 2, mlp: [5]}]}
training: {epochs: 2, batch_size: 32}
grid:
  variants: {VAE: {}, top: {model.inference: top_down}}
  axes: {model.skip: [none, both], training.epochs: [2, 3]}
"""
SECTIONS = ["result", "effects", "likelihood", "units", "images", "architectures", "members", "settings", "provenance"]
PICTURES = {"data:image/png;base64": "png", "data:image/svg+xml;base64": "svg"}


class Page(HTMLParser):
    """A page as its elements and its text; elements that are not closed in their order are errors."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).split())

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def source(results):
    """The page without its figures, which take seconds to draw."""
    frames = analysis.load(results.root)
    return html_page.page(frames, report.summary(frames), [tables.log_likelihood(frames)], [])


def page(results):
    return Page(source(results))


def test_the_page_holds_every_table_figure_and_section(results, small_spec):
    for member in results.grid(spec=small_spec):
        results.add_gallery(member)
    report.write(results.root)
    text = (results.root / "report.html").read_text(encoding="utf-8")
    assert_loads_nothing(text)
    found = Page(text)
    assert [attrs["id"] for attrs in found.all("section")] == SECTIONS
    pictures = sorted(path.stem for path in (results.root / "figures").glob("*.png"))
    assert len(pictures) == 11
    assert sorted(attrs["id"] for attrs in found.all("figure")) == pictures
    # Every section, table and figure has one link to it, and an identifier of its own.
    tables_of_page = [attrs["id"] for attrs in found.all("div") if attrs.get("class") == "table"]
    targets = [*SECTIONS[1:], *tables_of_page, *pictures]
    assert sorted(attrs["href"] for attrs in found.all("a")) == sorted(f"#{name}" for name in targets)
    assert len(set(targets)) == len(targets)
    # The pictures are those of the files, or smaller ones of the same.
    kinds = []
    for attrs, element in zip(found.all("figure"), found.all("img"), strict=True):
        kind, _, content = element["src"].partition(",")
        kinds.append(PICTURES[kind])
        file = (results.root / "figures" / f"{attrs['id']}.png").read_bytes()
        if kinds[-1] == "png":
            assert base64.b64decode(content) == file
        else:
            assert len(base64.b64decode(content)) <= len(file)
    assert {"png", "svg"} == set(kinds)
    assert "VAE+BN+WU -80.00 ± 0.00 (3) Prob. ladder+BN+WU -80.00 ± 0.00 (3)" in " ".join(" ".join(found.texts).split())
    assert "Importance-weighted bound with K = 500 samples on 360 test images." in found.text
    shown = "Mean test log-likelihood at L = 2: VAE+BN+WU -80.00, Prob. ladder+BN+WU -80.00 nats."
    assert f"Figure 1. digits. {shown} Bars are the standard error" in found.text
    assert found.all("img")[0]["alt"] == f"test log-likelihood, digits. {shown}"
    # Nothing is said of what this figure does not show.
    assert "Hollow markers" not in found.text
    assert "A cross" not in found.text


def test_every_table_and_figure_names_the_members_behind_it(results, small_spec):
    planned = results.grid(lambda m: results.result(m) if m.seed else None, spec=small_spec)
    started = [m for m in planned if m.seed]
    report.write(results.root)
    text = (results.root / "report.html").read_text(encoding="utf-8")
    behind = " ".join(member.digests.evaluation[:12] for member in started)
    found = Page(text)
    named = [attrs["data-members"] for _, attrs in found.elements if "data-members" in attrs]
    assert len(named) == len(found.all("figure")) + len(re.findall('<div class="table"', text))
    assert set(named) == {behind}
    tables_written = results.root / "tables"
    assert f"<!-- members {behind} -->" in (tables_written / "test_log_likelihood.md").read_text(encoding="utf-8")
    assert f"% members {behind}" in (tables_written / "test_log_likelihood.tex").read_text(encoding="utf-8")
    assert behind.encode() in (results.root / "figures" / "log_likelihood.png").read_bytes()


def assert_loads_nothing(text):
    found = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in found.elements}
    (policy,) = [attrs for attrs in found.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"].startswith("default-src 'none'")
    for _, attrs in found.elements:
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("#", *(f"{kind}," for kind in PICTURES)))
    assert "url(" not in text


def test_validation_images_are_counted_where_there_are_any(results, small_spec):
    images = results.data(train_images=1337, validation_images=100)
    results.grid(lambda m: results.result(m, data=images), spec=small_spec, with_curves=False)
    heading, row = run_info.data(analysis.load(results.root))
    assert heading[2:5] == ("training images", "validation images", "test images")
    assert row[2:5] == ("1,337", "100", "360")


def test_text_of_specs_and_records_is_escaped(results, small_spec):
    evil = "</td><script>alert(1)</script>&amp;\"'"
    spec = small_spec.replace("VAE+BN+WU: {", f"{json.dumps(evil)}: {{")
    results.grid(
        lambda m: (
            {**results.result(m), "status": "failed", "failure": evil}
            if m.seed
            else results.result(
                m, host=evil, device=evil, versions={evil: evil}, source={"commit": evil, "dirty": True}
            )
        ),
        spec=spec,
    )
    found = page(results)
    assert not found.all("script")
    # Variant, host, device, version and failure, each as it was.
    assert found.text.count(evil) >= 5
    assert_loads_nothing(source(results))


def test_what_was_run_and_where_it_came_from(results, small_spec):
    fields = {
        "host": "node7",
        "device": "cuda",
        "device_name": "Some GPU",
        "versions": {"python": "3.12", "torch": "2.9"},
        "source": {"commit": "0123456789abcdef", "dirty": True, "diff": "source/0123.diff"},
    }
    results.grid(lambda m: results.result(m, **fields), spec=small_spec)
    text = page(results).text
    for phrase in (
        "6 members: 6 finished",
        "depths L2",
        "seeds0, 1, 2",
        "batch size32",
        "ab" * 32,
        "the distributor's1,437360",
        "node7Some GPU, cudapython 3.12, torch 2.90123456789ab, with uncommitted changes6",
    ):
        assert phrase in text, phrase


def test_every_machine_that_had_a_part_in_a_member_counts_it(results, small_spec):
    for member in results.grid(spec=small_spec, with_curves=False):
        training, evaluation = results.files(member, results.result(member))
        extended = evaluation.segment.model_copy(update={"host": "there" if member.seed else "here", "first_epoch": 11})
        measured = evaluation.segment.model_copy(update={"host": "elsewhere" if member.seed == 1 else "here"})
        results.record_of(member).finish(
            training.model_copy(update={"segments": [*training.segments, extended, extended]})
        )
        results.evaluation_of(member).finish(evaluation.model_copy(update={"segment": measured}))
    rows = run_info.machines(analysis.load(results.root))[1:]
    assert [(row[0], row[-1]) for row in rows] == [("here", "6"), ("there", "4"), ("elsewhere", "2")]


def test_test_sets_of_other_files_are_told_apart_by_their_checksum(results, small_spec):
    results.grid(
        lambda m: results.result(m, data=results.data(test_sha256=("cd" if m.seed else "ef") * 32)),
        spec=small_spec,
        with_curves=False,
    )
    rows = run_info.data(analysis.load(results.root))[1:]
    assert [row[-2:] for row in rows] == [("ab" * 32, "ef" * 32), ("ab" * 32, "cd" * 32)]


def test_a_setting_that_some_members_lack_is_no_setting_of_all(results, small_spec):
    decay = "{training.lr_decay: {factor: 0.75, every: 2}}"
    results.plan(small_spec)
    for member in results.grid(spec=small_spec.replace("Prob. ladder+BN+WU: {}", f"Prob. ladder+BN+WU: {decay}")):
        if member.seed:
            # Nothing is known of members whose cell has not begun; the first seed stands for the others.
            shutil.rmtree(results.root / "members" / member.folder)
    frames = analysis.load(results.root)
    shared = dict(run_info.common_settings(frames))
    assert shared["batch size"] == "32"
    # Nobody clips gradients; some have their learning rate lowered.
    assert not {"clip norm", "learning rate decay factor", "learning rate decay every"} & set(shared)
    heading, *rows = run_info.variant_settings(frames)
    place = heading.index("learning rate decay factor")
    assert {row[0]: row[place] for row in rows} == {"VAE+BN+WU": "none", "Prob. ladder+BN+WU": "0.75"}


@pytest.mark.parametrize("spec_is_known", [True, False])
def test_how_far_a_running_member_has_come_is_given_in_whole_epochs(results, small_spec, spec_is_known):
    planned = results.plan(small_spec)
    running = results.record(planned[0], None)
    if not spec_is_known:
        (running / "spec.yaml").unlink()
    # One that has not begun and of which nothing is known makes the column one of fractions.
    shown = {row[0]: row[2] for row in run_info.lost(analysis.load(results.root))}
    assert shown["digits, L = 2, VAE+BN+WU, seed 0"] == ("epoch 10 of 10" if spec_is_known else "epoch 10")


def test_members_that_did_not_finish_are_listed_one_by_one(results, spec):
    def outcome(member):
        if member.labels["variant"] == "VAE" and member.labels["depth"] == 3:
            return [results.diverged(member), {**results.result(member), "status": "failed", "failure": "a\nb"}, None][
                member.seed
            ]
        return results.result(member)

    planned = results.grid(outcome, spec=spec)
    running = next(m for m in planned if (m.labels["variant"], m.labels["depth"], m.seed) == ("VAE", 3, 2))
    results.record(running, None)
    text = page(results).text
    assert "3 of 33 members are not finished; they are counted, but excluded from the means." in text
    assert "digits, L = 3, VAE, seed 0divergedin epoch 3: log p(x|z_1)" in text
    assert "digits, L = 3, VAE, seed 1failedb" in text
    assert "digits, L = 3, VAE, seed 2runningepoch 10 of 10" in text


def test_data_that_are_not_canonical_are_warned_of(results, small_spec):
    data = results.data(canonical=False)
    results.grid(lambda m: results.result(m, data=data), spec=small_spec)
    found = page(results)
    assert "The files of digits are not those of its distributor" in found.text
    assert "not the distributor's1,437360" in found.text
    assert [attrs for attrs in found.all("p") if attrs.get("class") == "warning"]


def test_a_grid_that_has_not_begun_has_a_page(results):
    results.plan()
    found = page(results)
    assert "33 of 33 members are not finished" in found.text
    assert [attrs["id"] for attrs in found.all("section")] == ["result", "members", "settings"]


def test_each_architecture_stands_once_with_the_variants_that_share_it(results, spec):
    results.grid(spec=spec, with_curves=False)
    text = source(results)
    found = Page(text)
    headings = re.findall(r"<h3>(.*?)</h3>", text)
    assert headings == [
        "VAE (digits, L = 3)",
        "VAE+BN, VAE+BN+WU (digits, L = 3)",
        "Prob. ladder+BN+WU (digits, L = 3)",
    ]
    # Subscripts are elements, so that the text runs on.
    assert "p(x, z) = p(x|z1) p(z1|z2) p(z2|z3) p(z3)" in found.text
    assert "q(z|x) = q(z1|x) q(z2|z1) q(z3|z2)" in found.text
    assert "q(z|x) = q(z3|x) q(z2|z3, x) q(z1|z2, x)" in found.text


def test_models_stand_side_by_side_by_their_size_and_are_named_by_the_axes_that_they_depend_on(results):
    results.grid(spec=SKIPPING, with_curves=False)
    found = models(analysis.load(results.root))
    none, both = "skip none", "skip both"
    assert [one.variants for one in found.architectures] == [
        (f"VAE, {none}",),
        (f"VAE, {both}",),
        (f"top, {none}",),
        (f"top, {both}",),
    ]
    heading, *rows = found.sizes
    assert heading[1:3] == ("parameters", "of q(z|x) alone")
    assert len(heading) == 5
    assert [row[0] for row in rows] == [f"{one.variants[0]} (digits, L = 3)" for one in found.architectures]
    # A mapping of i numbers to a layer of 5 hidden units and 2 * 2 outputs: 5 i multiply-adds and 20 more.
    once = {"VAE": 5 * 64 + 20, "top": 5 * (64 + 2 + 2) + 3 * 20}
    of_q = {
        f"VAE, {none}": 5 * (2 + 2) + 2 * 20,
        f"VAE, {both}": 5 * (2 + 4) + 2 * 20,
        f"top, {none}": 5 * (6 + 6) + 2 * 20,
        f"top, {both}": 5 * (6 + 8) + 2 * 20,
    }
    of_p = {none: 5 * (2 + 2 + 2) + 2 * 20 + 5 * 64, both: 5 * (2 + 4 + 6) + 2 * 20 + 5 * 64}
    for name, total, own, per_image, per_sample in rows:
        variant, skip = name.removesuffix(" (digits, L = 3)").split(", ")
        assert int(per_image.replace(",", "")) == once[variant]
        assert int(per_sample.replace(",", "")) == of_q[f"{variant}, {skip}"] + of_p[skip]
        biases = 9 * (5 if variant == "top" else 3)
        assert int(own.replace(",", "")) == once[variant] + of_q[f"{variant}, {skip}"] + biases
        assert int(total.replace(",", "")) == int(own.replace(",", "")) + of_p[skip] + 2 * 9 + 5 + 64
    # Where p has skip connections, x depends on all layers, in the objective too.
    assert [names for _, names in found.objectives] == [
        (f"VAE, {none}", f"top, {none}"),
        (f"VAE, {both}", f"top, {both}"),
    ]
    text = page(results).text
    assert "q(z|x) = q(z3|x) q(z2|z3, x) q(z1|z2, z3, x)" in text
    assert "multiply-adds per sample of an image" in text


def test_pseudo_inputs_pass_through_inference_in_every_step(results, small_spec):
    ladder = "Prob. ladder+BN+WU: {}"
    variants = f"{ladder}\n    vamp: {{model.prior: {{vamp: 6}}}}"
    results.grid(spec=small_spec.replace(ladder, variants), with_curves=False)
    heading, *rows = models(analysis.load(results.root)).sizes
    assert heading[3:] == (
        *("multiply-adds per image", "multiply-adds per sample of an image"),
        "multiply-adds of pseudo-inputs per step",
    )
    of_pseudo_inputs = {name.partition(" (")[0]: int(of.replace(",", "")) for name, *_, of in rows}
    (once,) = (int(row[3].replace(",", "")) for row in rows if row[0].startswith("vamp"))
    assert of_pseudo_inputs.pop("vamp") == 6 * once > 0
    assert set(of_pseudo_inputs.values()) == {0}
    assert "multiply-adds of pseudo-inputs per step" in page(results).text


def test_variants_that_differ_in_their_objective_alone_have_it_each(results, small_spec):
    more = "Prob. ladder+BN+WU: {}\n    penalized: {objective.free_bits: {nats: 0.5, per: unit}}"
    results.grid(spec=small_spec.replace("Prob. ladder+BN+WU: {}", more), with_curves=False)
    text = source(results)
    assert "<h3>Prob. ladder+BN+WU, penalized (digits, L = 2)</h3>" in text
    found = Page(text).text
    first, second = found.index("VAE+BN+WU, Prob. ladder+BN+WU: log w ="), found.index("penalized: log w =")
    assert "max(0, 0.5 - KL" not in found[first:second]
    assert "max(0, 0.5 - KL" in found[second:]


def test_an_objective_that_all_share_stands_once_without_names(results, small_spec):
    results.grid(spec=small_spec, with_curves=False)
    text = page(results).text
    assert text.count("log w =") == 1
    assert "is 1 in every test: log w =" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("p(z_i|z_{i+1})", "p(z<sub>i</sub>|z<sub>i+1</sub>)"),
        ("q(z_i|z_{i-1})", "q(z<sub>i</sub>|z<sub>i−1</sub>)"),
        ("σ²_{t,i} < 1", "σ²<sub>t,i</sub> &lt; 1"),
        ("w^2", "w<sup>2</sup>"),
        ("training.batch_size = 64, leaky_relu, test_iw_samples", None),
        ("a & b", "a &amp; b"),
    ],
)
def test_mathematics_has_subscripts_and_names_stay_whole(text, shown):
    assert typeset(text) == (text if shown is None else shown)


def test_a_record_without_particulars_has_a_page(results, small_spec):
    for member in results.grid(spec=small_spec):
        digests, record = member.digests, results.record_of(member)
        record.finish(TrainingResult(digest=digests.training, trajectory=digests.trajectory, status="trained"))
        names = {"digest": digests.evaluation, "training": digests.training, "labels": member.labels}
        bare = EvaluationResult(status="finished", test_log_likelihood=-80.0, **names)
        results.evaluation_of(member).finish(bare)
    found = page(results)
    assert "VAE+BN+WU -80.00 ± 0.00 (3) Prob. ladder+BN+WU -80.00 ± 0.00 (3)" in " ".join(" ".join(found.texts).split())
    assert run_info.machines(analysis.load(results.root))[1:] == []


def test_own_images_that_are_gone_leave_the_rest_of_the_page(results, small_spec, tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, train=np.zeros((64, 30), np.uint8), test=np.zeros((8, 30), np.uint8))
    own = f"{{dataset: own, own: {{name: mine, file: {path}, range: [0, 255]}}}}"
    data = results.data("mine", 64, 8, canonical=None)
    results.grid(
        lambda m: results.result(m, data=data), spec=small_spec.replace("{dataset: digits}", own), with_curves=False
    )
    path.unlink()
    text = page(results).text
    assert "VAE+BN+WU (mine, L = 2)" in text
    assert "minethe user's own648" in text
    assert "Its widths are not known here" in text
