"""What a node of a cluster must have before anything is trained on it."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hvae_spec.errors import MachineError, UserError
from hvae_spec.reading import reads
from tune.execute import nodes, trials
from tune.execute.outcomes import Outcomes
from tune.execute.signals import Interruption
from tune.plan.devices import Machine
from tune.plan.packs import RunInfo

SPEC = """
name: own
data: {{dataset: own, own: {{name: mine, file: {file}, range: [0, 255]}}}}
model: {{layers: [{{units: 2, mlp: [4]}}]}}
training: {{epochs: 1, batch_size: 8}}
grid: {{seeds: [0, 1]}}
"""


def write_images(path, seed):
    images = np.random.default_rng(seed).integers(0, 256, (16, 6, 5), dtype=np.uint8)
    np.savez(path, train=images, test=images[:4])


@pytest.fixture
def needed(tmp_path):
    """What two packs of the same images need, with a shared folder that is there."""
    write_images(tmp_path / "images.npz", 0)
    members = reads(SPEC.format(file=tmp_path / "images.npz"), "a.yaml").members
    run = RunInfo(tmp_path / "out", "cpu")
    shared = tmp_path / "out" / ".ray-x"
    shared.mkdir(parents=True)
    return nodes.requirements([run.job([member], threads=1, compiled=False) for member in members], shared)


def test_a_node_that_has_everything_is_fit(needed):
    assert len(needed.specs) == 1
    found, expected = nodes.look(needed, "node"), nodes.digests(needed)
    assert expected["mine"] == found.digests["mine"]
    assert nodes.fault(found, needed, expected, "node") == ""


def test_a_node_that_does_not_see_the_folder_is_named_and_writes_nothing(needed, tmp_path):
    elsewhere = tmp_path / "other" / "out" / ".ray-x"
    found = nodes.look(replace(needed, shared=elsewhere), "node")
    assert nodes.fault(found, needed, {}, "node") == (
        f"{tmp_path}/out: this folder, which the run writes to, is not seen there; choose a folder on storage that all "
        "nodes share, with --results"
    )
    assert not (tmp_path / "other").exists()


def test_a_node_with_a_folder_of_its_own_of_the_same_name_is_named(needed, tmp_path):
    other = tmp_path / "other" / ".ray-x"
    other.mkdir(parents=True)
    found = nodes.look(replace(needed, shared=other), "node")
    assert "what the node writes there is not seen by the run; choose" in nodes.fault(found, needed, {}, "node")


def test_a_node_that_may_not_write_is_named(needed, monkeypatch):
    def touch(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", touch)
    found = nodes.look(needed, "node")
    assert nodes.fault(found, needed, {}, "node") == (
        f"{needed.shared}/node: Permission denied; give yourself permission to use it, and to enter its folder"
    )


def test_a_node_with_other_images_or_none_is_named_with_the_path_and_the_remedy(needed, tmp_path):
    expected = nodes.digests(needed)
    write_images(tmp_path / "images.npz", 1)
    found = nodes.look(needed, "node")
    ours, theirs = expected["mine"][0][:12], found.digests["mine"][0][:12]
    why = nodes.fault(found, needed, expected, "node")
    assert why.startswith(f"mine: its images, looked for in {tmp_path}/images.npz, are not those of the run (SHA-256 ")
    assert f"{theirs}..., not {ours}...); put the same files there" in why
    (tmp_path / "images.npz").unlink()
    why = nodes.fault(nodes.look(needed, "node"), needed, expected, "node")
    assert str(tmp_path / "images.npz") in why
    assert "\n" not in why


class Cluster:
    """Stands for Ray with two nodes: `look` runs here, with another shared folder on those that see none."""

    def __init__(self, blind):
        self.blind = blind
        self.util = None

    def nodes(self):
        return [
            {
                **{"NodeID": name * 56, "Alive": True, "NodeManagerHostname": name, "NodeManagerAddress": "10.0.0.1"},
                "Resources": {"CPU": 2.0},
            }
            for name in ("a", "b")
        ]

    def remote(self, **_):
        def ask(look):
            def on(scheduling_strategy):
                is_blind = scheduling_strategy.node_id[0] in self.blind

                def run(needed, reply):
                    return look(replace(needed, shared=Path("/nowhere/.ray-x")) if is_blind else needed, reply)

                return SimpleNamespace(remote=run)

            return SimpleNamespace(options=on)

        return ask

    def wait(self, answers, num_returns, timeout):
        assert num_returns == len(answers) == 2

    def get(self, answer, timeout):
        return answer

    def available_resources(self):
        return {}

    def get_runtime_context(self):
        return SimpleNamespace(gcs_address="10.0.0.1:6379")


@pytest.mark.parametrize("blind", ["", "b", "ab"])
def test_nothing_runs_on_a_node_that_lacks_something_and_all_that_lack_it_are_input_that_is_bad(
    needed, tmp_path, monkeypatch, blind
):
    said, ran = [], []
    monkeypatch.setattr(trials, "ray_running", lambda *_: nullcontext(Cluster(blind)))
    placed = trials._placement
    monkeypatch.setattr(trials, "_run_trials", lambda jobs, run, needs, unfit: ran.append(placed(needs, unfit)) or [])
    members = reads(SPEC.format(file=tmp_path / "images.npz"), "a.yaml").members
    job = RunInfo(tmp_path / "out", "cpu").job(members, threads=1, compiled=False)

    def run():
        with Interruption() as interruption:  # which gives the signals back
            trials.run_on_ray(
                [job], None, interruption, machine=Machine(4), workers=1, grace=0, say=said.append, address="somewhere"
            )

    why = (
        "Nothing is trained on node {0} (10.0.0.1): "
        + f"{tmp_path}/out: this folder, which the run writes to, is not seen there; "
        "choose a folder on storage that all nodes share, with --results"
    )
    if len(blind) == 2:
        with pytest.raises(UserError) as refused:
            run()
        assert str(refused.value) == "\n".join(why.format(name) for name in blind)
        assert not ran
        return
    run()
    (resources,) = ran
    assert said == [why.format(name) for name in blind]
    assert resources.bundles == [{"CPU": 1.0}]
    selected = resources._kwargs.get("bundle_label_selector")
    assert selected == ([{"ray.io/node-id": f"!in({blind * 56})"}] if blind else None)


@pytest.mark.parametrize("address", [None, "somewhere"])
def test_only_of_a_cluster_is_asked_what_others_have_left(needed, tmp_path, monkeypatch, address):
    ran = []
    monkeypatch.setattr(trials, "ray_running", lambda *_: nullcontext(Cluster("")))
    monkeypatch.setattr(trials, "_run_trials", lambda jobs, run, needs, unfit: ran.append(run.free) or [])
    members = reads(SPEC.format(file=tmp_path / "images.npz"), "a.yaml").members
    job = RunInfo(tmp_path / "out", "cpu").job(members, threads=1, compiled=False)
    with Interruption() as interruption:
        trials.run_on_ray(
            [job], None, interruption, machine=Machine(4), workers=1, grace=0, say=pytest.fail, address=address
        )
    assert [free is None for free in ran] == [address is None]


def test_a_node_that_has_joined_later_and_sees_no_folder_begins_no_pack_and_says_why(needed, tmp_path, monkeypatch):
    from ray import tune as ray_tune

    told, listened = [], []
    monkeypatch.setattr(ray_tune, "report", told.append)
    members = reads(SPEC.format(file=tmp_path / "images.npz"), "a.yaml").members
    job = RunInfo(tmp_path / "elsewhere", "cpu").job(members, threads=1, compiled=False)
    jobs = {job.pack_id: job}
    with pytest.raises(MachineError) as refused:
        trials._run_trial({"pack": job.pack_id}, jobs, ("a", 1), {}, tmp_path / "elsewhere" / ".ray-x", 0)
    why = str(refused.value)
    assert told == [{"refused": why}]
    assert f"{tmp_path}/elsewhere: this folder, which the run writes to, is not seen there; choose" in why
    assert not (tmp_path / "elsewhere").exists()

    listener = SimpleNamespace(failed=lambda pack, reason, *, final: listened.append((reason, final)))
    outcomes = Outcomes(jobs, listener)
    run = trials._Run(listener, Interruption(), None, tmp_path, 0, pytest.fail, None)
    callback = trials._callback(outcomes, run, {"CPU": 1}, [])
    trial = SimpleNamespace(config={"pack": job.pack_id})
    callback.on_trial_result(0, [], trial, told[0])
    callback.on_trial_recover(0, [], trial)
    assert listened == [(why, False)]
