"""A report in a real browser: its first screen has the answer, the main table and its figure; a phone hides nothing."""

import pytest

from analysis import report
from tests.browser import boxes, needs_browser

WIDE, NARROW = (1440, 900), (420, 900)
pytestmark = needs_browser


@pytest.fixture
def page(results, spec):
    """The report of a grid in which members have diverged or failed, which takes words."""

    def outcome(member):
        if member.labels["variant"] == "VAE" and member.labels["depth"] == 3:
            lost = results.diverged(member), {**results.result(member), "status": "failed", "failure": "a\nb"}
            return [*lost, None][member.seed]
        return results.result(member, -80.0 - member.seed * 0.1 - 0.01 * member.labels["depth"])

    results.grid(outcome, spec=spec)
    report.write(results.root)
    return results.root / "report.html"


def test_answer_table_and_figure_lie_in_the_first_screen(page, tmp_path):
    found = boxes(page, tmp_path, [".question", ".answer", ".pair table", ".pair img"], WIDE)
    width, height = WIDE
    for selector in (".question", ".answer", ".pair table", ".pair img"):
        assert found[selector], selector
        for left, top, right, bottom in found[selector]:
            assert 0 <= left < right <= width, selector
            assert 0 <= top < bottom <= height, selector
    # Beside each other, and neither hides the other.
    (table,), (figure,) = found[".pair table"], found[".pair img"]
    assert table[2] <= figure[0]


def test_a_phone_shows_all_of_it_and_tables_scroll_by_themselves(page, tmp_path):
    found = boxes(page, tmp_path, ["img", ".scroll", ".answer", "summary"], NARROW)
    width = NARROW[0]
    assert found["page"][0][2] <= width
    for selector in ("img", ".scroll", ".answer", "summary"):
        assert all(left >= 0 and right <= width for left, _, right, _ in found[selector]), selector
