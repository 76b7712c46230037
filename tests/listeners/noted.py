"""Listeners of tests, and a member that takes a second."""

from hvae_spec import loads, members
from hvae_spec.listeners.listener import Listener
from hvae_spec.pack_job import PackJob

TINY = """
name: tiny
data: {dataset: digits, train_images: 64, test_images: 16}
model: {layers: [{units: 3, mlp: [4]}, {units: 2, mlp: [4]}], batch_norm: true}
objective: {warm_up: 2}
training: {epochs: 6, batch_size: 32}
evaluation: {iw_samples: 4, every: 3}
grid: {seeds: [0, 1]}
"""


def tiny_job(root, text=TINY):
    every = members(loads(text))
    return PackJob("pack", tuple(every), root)


class Noted(Listener):
    """Notes everything that it is told, by the name of the member."""

    def __init__(self):
        self.said = {}

    def start(self, member):
        self.said.setdefault(member.name, []).append(("start", member))

    def epoch(self, member, epoch, values):
        self.said[member.name].append(("epoch", epoch, values))

    def evaluation(self, member, epoch, values, unit_kl):
        self.said[member.name].append(("evaluation", epoch, values, unit_kl))

    def finish(self, member, status, reason):
        self.said[member.name].append(("finish", status, reason))

    def outline(self, name):
        """What was told of a member, without numbers."""
        return [event[:2] if event[0] != "start" else event[:1] for event in self.said[name]]
