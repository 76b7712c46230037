"""The listeners of docs/listeners.md for packages that are not installed, on stand-ins that take the same calls."""

import re
import sys
import types
from pathlib import Path

import pytest

import hvae_spec
from tests.listeners.noted import TINY

PAGE = (Path(__file__).parents[2] / "docs" / "listeners.md").read_text()
ONE = TINY.replace("seeds: [0, 1]", "seeds: [0]")


def listener(name):
    """The class of this name in a code block of the page."""
    (text,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if f"class {name}(" in block]
    namespace = {}
    exec(text, namespace)
    return namespace[name]()


class Wandb(types.ModuleType):
    """The calls of wandb that the example makes."""

    def __init__(self):
        super().__init__("wandb")
        self.started, self.logged, self.codes = [], [], []

    def init(self, *, project, name, config, reinit):
        self.started.append((project, name, config["training"]["epochs"], reinit))
        return self

    def log(self, data, *, step):
        self.logged.append((step, data))

    def finish(self, *, exit_code):
        self.codes.append(exit_code)

    Histogram = staticmethod(tuple)


class Mlflow(types.ModuleType):
    """The calls of mlflow and of its client that the example makes."""

    def __init__(self):
        super().__init__("mlflow")
        self.params, self.metrics, self.ended = {}, [], []

    def set_experiment(self, name):
        return types.SimpleNamespace(experiment_id=f"id of {name}")

    def MlflowClient(self):  # noqa: N802 - its name there
        return self

    def create_run(self, experiment_id, *, run_name):
        assert experiment_id == "id of hvae"
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"run {run_name}"))

    def log_param(self, run_id, key, value):
        self.params[run_id, key] = value

    def log_metric(self, run_id, key, value, *, step):
        self.metrics.append((run_id, key, value, step))

    def set_terminated(self, run_id, status):
        self.ended.append((run_id, status))


@pytest.fixture
def rows(tmp_path):
    """Trains a member with a listener; returns its record."""

    def train(one):
        hvae_spec.train(ONE, results=tmp_path, listeners=[one], progress=False)
        from hvae_spec.records.layout import Results

        (record,) = Results(tmp_path).records
        return record

    return train


def test_weights_and_biases_is_told_all(rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", wandb := Wandb())
    record = rows(listener("WeightsAndBiases"))
    assert wandb.started == [("hvae", record.folder.name, 6, "create_new")]
    curve = [(step, data["train_bound"]) for step, data in wandb.logged if "train_bound" in data]
    assert curve == [(row["epoch"], row["train_bound"]) for row in record.epochs]
    final = [data for step, data in wandb.logged if step == 6][-1]
    result = record.evaluations[-1].result
    assert final["final_test_log_likelihood"] == result.test_log_likelihood
    assert final["unit_kl/z_2"] == tuple(result.unit_kl[1])
    assert wandb.codes == [0]


def test_mlflow_is_told_all(rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", mlflow := Mlflow())
    record = rows(listener("MLflow"))
    run = f"run {record.folder.name}"
    assert mlflow.params[run, "variant"] == "VAE+BN+WU"
    curve = [(step, value) for _, key, value, step in mlflow.metrics if key == "train_bound"]
    assert curve == [(row["epoch"], row["train_bound"]) for row in record.epochs]
    assert [step for _, key, _, step in mlflow.metrics if key == "final_test_elbo"] == [6]
    assert mlflow.ended == [(run, "FINISHED")]
