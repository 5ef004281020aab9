"""The manifests of deploy/kubernetes and of the Helm chart: Kubernetes' schemas, and qw's rules."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from qw.cli.program import run
from qw.config import load
from qw.daemon.daemon import CLOSE_SECONDS
from qw.daemon.drain import KILL_SECONDS, RELAY_SECONDS, STOP_SECONDS, THREAD_SECONDS, WRITE_SECONDS

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
CHART = DEPLOY / "helm" / "qw"
SCHEMAS = json.loads((Path(__file__).parent / "kubernetes.json").read_text())
OBJECTS = sorted(
    path
    for folder in ("base", "hpa", "keda")
    for path in (KUBERNETES / folder).glob("*.yaml")
    if path.name not in ("kustomization.yaml", "prometheus-adapter.yaml")
)

Manifest = Mapping[str, Any]
Names = tuple[str, str]  # kind and name


def faults(manifest: Manifest) -> list[str]:
    schema = {**SCHEMAS["kinds"][manifest["kind"]], "$defs": SCHEMAS["$defs"]}
    found = jsonschema_rs.validator_for(schema).iter_errors(manifest)
    return [f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in found]


def read(text: str) -> dict[Names, Manifest]:
    found = [each for each in yaml.safe_load_all(text) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def plain(*folders: str) -> dict[Names, Manifest]:
    paths = [path for path in OBJECTS if path.parent.name in folders]
    return {name: each for path in paths for name, each in read(path.read_text()).items()}


def helm(*words: str, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    if not shutil.which("helm"):
        pytest.skip("helm is not installed")
    command = ["helm", *words, str(CHART), "--values", "-"]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True)


def charted(values: Mapping[str, Any], release: str = "qw") -> dict[Names, Manifest]:
    done = helm("template", release, "--namespace", "x", values=values)
    assert done.returncode == 0, done.stderr
    return read(done.stdout)


def pods(manifests: Mapping[Names, Manifest]) -> Iterator[Manifest]:
    for (kind, _), each in manifests.items():
        if kind in ("Deployment", "Job"):
            yield each["spec"]["template"]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_manifest_is_what_kubernetes_knows(path: Path) -> None:
    found = read(path.read_text())

    assert found
    assert {name: faults(each) for name, each in found.items()} == {name: [] for name in found}


def test_a_mistyped_key_or_value_would_be_found() -> None:
    worker = json.loads(json.dumps(plain("base")[("Deployment", "qw-worker")]))
    worker["spec"]["replica"] = 2
    worker["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["periodSeconds"] = "10"

    assert len(faults(worker)) == 2


@pytest.mark.parametrize("folder", ["base", "hpa", "keda"])
def test_every_manifest_is_applied(folder: str) -> None:
    kustomization = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())

    assert set(kustomization["resources"]) == {path.name for path in OBJECTS if path.parent.name == folder}


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_kustomize_builds_the_example() -> None:
    command = ["kubectl", "kustomize", str(KUBERNETES / "production")]
    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    built = read(done.stdout)
    assert set(built) == set(plain("base", "keda"))
    assert "replicas" not in built[("Deployment", "qw-worker")]["spec"]
    assert built[("ConfigMap", "qw")]["data"].keys() >= {"QW_QUEUES", "QW_GRACE"}
    assert {each["metadata"]["namespace"] for each in built.values()} == {"qw"}


@pytest.mark.parametrize(("kind", "folders"), [("", ("base",)), ("hpa", ("base", "hpa")), ("keda", ("base", "keda"))])
def test_the_chart_makes_the_same_objects(kind: str, folders: tuple[str, ...]) -> None:
    found = charted({"autoscaling": {"kind": kind}})

    expected = plain(*folders)
    assert set(found) == set(expected)
    for name, each in found.items():
        assert faults(each) == []
        assert spec(each) == spec(expected[name]), name


def spec(manifest: Manifest) -> Any:
    """What *manifest* says apart from names and labels that only a chart has, and from values that a chart decides."""
    text = json.dumps({key: value for key, value in manifest.items() if key != "metadata"})
    found = json.loads(text.replace('"qw:0.1.0"', '"qw"'), object_hook=without_release)
    if "template" in found.get("spec", {}):
        template = found["spec"]["template"]
        template["metadata"].pop("annotations", None)
        template["spec"].pop("serviceAccountName", None)  # the chart's migration runs before there is one
        for container in template["spec"]["containers"]:
            container.pop("imagePullPolicy", None)
        if manifest["kind"] == "Deployment":
            found["spec"].pop("replicas", None)
    return found


def without_release(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != "app.kubernetes.io/instance"}


def test_two_releases_of_the_chart_share_nothing_but_the_secret() -> None:
    one, two = charted({}, "one"), charted({}, "two")

    assert not set(one) & set(two)
    worker = one[("Deployment", "one-worker")]["spec"]
    assert worker["selector"]["matchLabels"]["app.kubernetes.io/instance"] == "one"
    assert one[("PodDisruptionBudget", "one-worker")]["spec"]["selector"] == worker["selector"]


def test_the_chart_has_no_errors() -> None:
    done = helm("lint", "--strict", values={})

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "values",
    [{"wroker": {}}, {"settings": {"QW_GRACE": "1m"}}, {"graceSeconds": "30s"}, {"autoscaling": {"kind": "vpa"}}],
)
def test_the_chart_refuses_values_that_it_does_not_have(values: Mapping[str, Any]) -> None:
    done = helm("template", "qw", values=values)

    assert done.returncode == 1
    assert "values don't meet the specifications of the schema" in done.stderr


def test_settings_and_their_values_are_ones_that_qw_reads() -> None:
    load(plain("base")[("ConfigMap", "qw")]["data"])
    load(charted({"settings": {"QW_QUEUES": "mail"}})[("ConfigMap", "qw")]["data"])


@pytest.mark.parametrize("grace", [30, 300])
def test_a_worker_gets_as_long_to_stop_as_it_may_take(grace: int) -> None:
    ours = grace + STOP_SECONDS + KILL_SECONDS + THREAD_SECONDS + WRITE_SECONDS + RELAY_SECONDS + CLOSE_SECONDS
    given = [charted({"graceSeconds": grace})]
    given += [plain("base")] if grace == load(plain("base")[("ConfigMap", "qw")]["data"]).grace.total_seconds() else []

    for manifests in given:
        pod = manifests[("Deployment", "qw-worker")]["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] >= ours


def test_every_container_runs_without_rights_and_writes_nowhere_but_in_its_volumes() -> None:
    for pod in pods(plain("base")):
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["automountServiceAccountToken"] is False
        for container in pod["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_what_containers_are_told_to_run_are_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for pod in pods(plain("base")):
        for container in pod["spec"]["containers"]:
            assert run([*container["args"], "--help"]) in (0, None)


def test_what_scales_workers_asks_for_what_the_rules_record() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}

    triggers = plain("keda")[("ScaledObject", "qw-worker")]["spec"]["triggers"]
    adapter = yaml.safe_load((KUBERNETES / "hpa" / "prometheus-adapter.yaml").read_text())["rules"]["external"]
    wanted = plain("hpa")[("HorizontalPodAutoscaler", "qw-worker")]["spec"]["metrics"]
    queries = [trigger["metadata"]["query"] for trigger in triggers] + [rule["metricsQuery"] for rule in adapter]
    assert {query.removeprefix("max(").removesuffix('{job="qw"})') for query in queries} <= recorded
    assert {each["external"]["metric"]["name"] for each in wanted} == {rule["name"]["as"] for rule in adapter}
