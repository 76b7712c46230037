"""What is written for TensorBoard, read back from its files."""

import io
import struct
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from hvae_spec.listeners.listener import MemberInfo
from hvae_spec.listeners.notifier import notified
from hvae_spec.listeners.tensorboard import TensorBoard, tiled
from hvae_spec.pack import run_pack
from hvae_spec.records.gallery_file import load_gallery
from tests.listeners.noted import TINY, tiny_job


def events(folder):
    """Tag, step and value of everything in a folder's files, in order."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            for value in event.summary.value:
                yield value.tag, event.step, value
            content = content[12 + length + 4 :]


def run(job, root):
    with notified([TensorBoard(root / "tensorboard")], pytest.fail) as (one,):
        one.begin(job, job.members)
        run_pack(job)
        one.end(job.members)


def test_curves_histograms_and_images_are_those_of_the_record(tmp_path):
    job = tiny_job(tmp_path, TINY.replace("seeds: [0, 1]", "seeds: [0]"))
    run(job, tmp_path)
    (member,) = job.members
    record = job.record(member)
    found = list(events(tmp_path / "tensorboard" / member.folder))
    counts = Counter((tag, step) for tag, step, _ in found)
    assert set(counts.values()) == {1}
    rows = record.epochs
    for tag, name in (("train/bound", "train_bound"), ("schedule/beta", "beta"), ("train/ms_per_step", "ms_per_step")):
        curve = [(step, value.simple_value) for one, step, value in found if one == tag]
        assert curve == [(row["epoch"], pytest.approx(row[name], rel=1e-6)) for row in rows]
    kl = [value.simple_value for tag, _, value in found if tag == "kl/z_2"]
    assert kl == pytest.approx([row["kl_per_layer"][1] for row in rows], rel=1e-6)
    assert [value.simple_value for tag, _, value in found if tag == "schedule/learning_rate"] == pytest.approx(
        [1e-3] * 6
    )
    assert [step for tag, step, _ in found if tag == "test/log_likelihood"] == [3, 6]
    assert [step for tag, step, _ in found if tag == "unit_kl/z_1"] == [3, 6]
    result = record.evaluations[-1].result
    ((step, value),) = [(step, value) for tag, step, value in found if tag == "final/test_log_likelihood"]
    assert (step, value.simple_value) == (6, pytest.approx(result.test_log_likelihood, rel=1e-6))
    ((step, value),) = [(step, value) for tag, step, value in found if tag == "final_unit_kl/z_1"]
    assert (value.histo.num, value.histo.sum) == (3, pytest.approx(sum(result.unit_kl[0])))
    gallery = load_gallery(record.folder)
    (value,) = [value for tag, _, value in found if tag == "prior_samples"]
    picture = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)).convert("L"))
    assert (picture[:8, 8:16] == np.round(255 * gallery["prior_samples"][1].reshape(8, 8))).all()
    (value,) = [value for tag, _, value in found if tag == "reconstructions"]
    picture = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)).convert("L"))
    assert (picture[:8, :8] == 255 * gallery["images"][0].reshape(8, 8)).all()
    assert (picture[8:16, :8] == np.round(255 * gallery["reconstructions"][0].reshape(8, 8))).all()


def info(root, name="member"):
    return MemberInfo(name, {}, root, 3, {})


def test_a_run_that_goes_on_replaces_what_was_written_and_leaves_other_files(tmp_path):
    for last in (2, 3):
        board = TensorBoard(tmp_path)
        for epoch in range(1, last + 1):
            board.epoch(info(tmp_path), epoch, {"train_bound": -float(epoch)})
        board.evaluation(info(tmp_path), last, {"final_test_elbo": 1.0}, [[0.5, float("nan")], [float("nan")]])
        board.finish(info(tmp_path), "diverged", "in epoch 3")
        (tmp_path / "member" / "mine.txt").touch()
    (tmp_path / "member" / "mine.txt").unlink()  # there still
    found = [(tag, step) for tag, step, _ in events(tmp_path / "member")]
    assert found[:3] == [("train/bound", 1), ("train/bound", 2), ("train/bound", 3)]
    assert found[3:] == [("final/test_elbo", 3), ("final_unit_kl/z_1", 3), ("status/text_summary", 0)]


def test_a_member_whose_gallery_is_damaged_has_a_line_in_its_place(tmp_path):
    board = TensorBoard(tmp_path)
    board.epoch(info(tmp_path), 1, {"beta": 1.0})
    board.finish(info(tmp_path), "finished", "")
    tags = [tag for tag, _, _ in events(tmp_path / "member")]
    assert tags == ["schedule/beta", "images/text_summary"]


def test_images_are_laid_in_rows_a_row_of_each_kind_below_the_other():
    first, second = np.linspace(0, 1, 12)[:, None].repeat(2, 1), np.full((12, 2), 2.0)
    picture = tiled([first, second], (2, 1))
    assert picture.shape == (8, 10)
    assert (picture[0] == np.round(255 * np.linspace(0, 1, 12)[:10])).all()
    assert (picture[2:4] == 255).all()
    assert (picture[4:6, :2] == np.round(255 * first[10:, 0])).all()
    assert (picture[4:, 2:] == 0).all()
