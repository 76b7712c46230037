"""The manifest of KubeRay and the Dockerfile of docs/examples: they fit the program, and each other."""

import re
import shlex
import tomllib
from pathlib import Path, PurePosixPath

import yaml

import hvae_spec
from tune.options import parse

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs/examples"
CLAIM, JOB = yaml.safe_load_all((EXAMPLES / "kuberay.yaml").read_text())
CLUSTER = JOB["spec"]["rayClusterSpec"]
WORKERS = CLUSTER["workerGroupSpecs"]
PODS = [group["template"]["spec"] for group in (CLUSTER["headGroupSpec"], *WORKERS)]
CONTAINERS = [container for pod in PODS for container in pod["containers"]]
DOCKERFILE = re.sub(r"\\\n", "", (EXAMPLES / "Dockerfile").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def dockerfile(instruction):
    """The arguments of every instruction of a name."""
    return re.findall(rf"^{instruction} (.*)$", DOCKERFILE, re.MULTILINE)


def options():
    python, *arguments = shlex.split(JOB["spec"]["entrypoint"])
    assert [python, *arguments[:2]] == ["python", "-m", "tune.run"]
    return parse(arguments[2:], "tune.run")


def test_the_run_of_the_manifest_is_one_of_this_program():
    chosen = options()
    home = PurePosixPath(dockerfile("WORKDIR")[0])
    spec = PurePosixPath(chosen.spec).relative_to(home)
    assert spec.parts[0] in {copy.split()[0] for copy in dockerfile("COPY")}
    hvae_spec.load(ROOT / spec)
    assert chosen.address is None  # a job runs on the cluster that it is submitted to
    assert chosen.device == "cpu"
    assert "nvidia.com/gpu" not in CONTAINERS[-1]["resources"]["limits"]


def test_cores_are_those_of_the_workers_and_the_head_runs_no_packs():
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    cores = [container["resources"]["limits"]["cpu"] for container in CONTAINERS[1:]]
    assert options().cpus == sum(group["replicas"] * count for group, count in zip(WORKERS, cores, strict=True))
    for group in WORKERS:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_every_pod_has_the_results_and_the_data_on_the_shared_volume():
    assert CLAIM["spec"]["accessModes"] == ["ReadWriteMany"]
    chosen = options()
    for pod, container in zip(PODS, CONTAINERS, strict=True):
        (volume,), (mount,) = pod["volumes"], container["volumeMounts"]
        assert volume["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]
        assert mount["name"] == volume["name"]
        variables = {entry["name"]: entry["value"] for entry in container["env"]}
        for path in (chosen.results, variables["HVAE_DATA_DIR"]):
            assert PurePosixPath(path).is_relative_to(mount["mountPath"])
            assert PurePosixPath(path) != PurePosixPath(mount["mountPath"])
        assert container["image"] == CONTAINERS[0]["image"]
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}


def test_the_cluster_asks_for_a_token_and_has_the_version_of_ray_of_the_image():
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert CLUSTER["rayVersion"] == pins["ray"]
    assert CLUSTER["authOptions"] == {"mode": "token"}


def test_a_pod_ends_after_ray_has_drained_it_and_a_stop_waits_for_the_run():
    for pod, container in zip(PODS, CONTAINERS, strict=True):
        assert pod["terminationGracePeriodSeconds"] > 30  # Ray's RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S
        assert {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "60"} in container["env"]


def test_names_are_such_as_kuberay_takes():
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", JOB["metadata"]["name"])
    assert len(JOB["metadata"]["name"]) <= 47
    assert JOB["apiVersion"] == "ray.io/v1"
    assert JOB["spec"]["submissionMode"] == "K8sJobMode"
    assert JOB["spec"]["shutdownAfterJobFinishes"]  # without it, ttlSecondsAfterFinished is refused


def test_the_image_has_the_program_and_nothing_else():
    copied = {name for line in dockerfile("COPY") for name in line.split()[:-1]}
    packages = {name.rstrip("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    texts = {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert copied == packages | texts | {"specs", "pyproject.toml", "constraints.txt"}
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_is_installed_as_the_readme_says():
    readme = re.search(r"pip install -q (-c constraints\.txt -e) \.", (ROOT / "README.md").read_text())[1]
    (command,) = (run for run in dockerfile("RUN") if "pip install" in run)
    extras = re.fullmatch(rf"pip install --no-cache-dir {re.escape(readme)} '\.\[(\w+)\]'", command)[1]
    assert extras in PROJECT["project"]["optional-dependencies"]
    version = re.fullmatch(r"python:(3\.\d+)-slim", dockerfile("FROM")[0])[1]
    assert f"Programming Language :: Python :: {version}" in PROJECT["project"]["classifiers"]


def test_the_image_and_the_pods_have_the_same_user_who_is_not_root():
    (user,) = dockerfile("USER")
    assert f"useradd --create-home --uid {user} " in DOCKERFILE
    for pod in PODS:
        assert pod["securityContext"] == {
            "runAsNonRoot": True, "runAsUser": int(user), "runAsGroup": int(user), "fsGroup": int(user)
        }  # fmt: skip
