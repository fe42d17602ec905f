"""Image, compose file and manifests: the settings they give are known, complete and valid, and they agree."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from padreel.options import load, options_of
from padreel.settings import ConsumerSettings
from padreel_shim.cli import cli as shim
from tests import custom_resources

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
NAMES = {option.env: option.name for option in options_of(ConsumerSettings)}
LABEL = {"app.kubernetes.io/name": "padreel"}
OVERLAYS = ("base", "overlays/scaled", "overlays/keda", "overlays/local")
# The oldest Kubernetes that knows everything in the manifests, and the newest of which the schemas are known.
KUBERNETES_VERSIONS = ("1.26", kubernetes_validate.latest_version())
GAME = ("game-definition.yaml", "action-mapping.yaml")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def image_environment() -> dict[str, str]:
    """What the Dockerfile sets that is a setting of ours."""
    return dict(re.findall(r"\b((?:PADREEL|KAFKA)_\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text("utf-8")))


def literals() -> dict[str, str]:
    """The settings of the base's ConfigMap."""
    (settings,) = [
        one for one in read(KUBERNETES / "base/kustomization.yaml")["configMapGenerator"] if "literals" in one
    ]
    return dict(one.split("=", 1) for one in settings["literals"])


def check(environment: dict[str, str]) -> ConsumerSettings:
    """As the consumer would take it. Fails for a variable that is unknown, missing or has no valid value."""
    assert set(environment) <= set(NAMES), "unknown"
    return load(ConsumerSettings, {NAMES[name]: value for name, value in environment.items()})


def test_the_image_s_settings_are_known() -> None:
    found = image_environment()
    assert found
    assert set(found) <= set(NAMES)


def test_compose_gives_the_consumer_what_it_needs() -> None:
    services = read(DEPLOY / "compose.yaml")["services"]
    settings = check({**image_environment(), **services["consumer"]["environment"]})
    mounted = {volume.split(":")[1]: DEPLOY / volume.split(":")[0] for volume in services["consumer"]["volumes"]}
    assert mounted[str(settings.game_definition)].is_file()
    assert mounted[str(settings.action_mapping)].is_file()
    assert any(settings.output_root.is_relative_to(folder) for folder in mounted)
    for name in ("prometheus", "grafana"):
        for volume in services[name]["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source


def test_the_manifests_give_the_consumer_what_it_needs() -> None:
    settings = check(literals())
    (container,) = read(KUBERNETES / "base/statefulset.yaml")["spec"]["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {settings.game_definition, settings.action_mapping} == {Path(mounts["game"], name) for name in GAME}
    assert settings.output_root.is_relative_to(mounts["data"])
    assert settings.metrics_port == container["ports"][0]["containerPort"]
    assert settings.metrics_host == "0.0.0.0"
    for name in GAME:
        assert (KUBERNETES / "base" / name).read_bytes() == (DEPLOY / "demo" / name).read_bytes()


def shim_variables(command: str) -> tuple[set[str], set[str]]:
    """All environment variables and all flags of a command of the shim."""
    options = [one for one in shim.commands[command].params if isinstance(one, click.Option)]
    return {str(one.envvar) for one in options if one.envvar}, {flag for one in options for flag in one.opts}


def test_rigs_and_topics_are_told_what_the_shim_knows() -> None:
    services = read(DEPLOY / "compose.yaml")["services"]
    pod = read(KUBERNETES / "overlays/local/rigs.yaml")
    containers = [one for key in ("initContainers", "containers") for one in pod["spec"]["template"]["spec"][key]]
    said = [(services[name]["entrypoint"], set(services[name]["environment"])) for name in ("topics", "rigs")]
    said += [(one["command"] + one["args"], {given["name"] for given in one["env"]}) for one in containers]
    for words, environment in said:
        assert words[0] == "padreel-shim"
        variables, flags = shim_variables(words[1])
        assert environment <= variables
        assert {word for word in words[2:] if word.startswith("--")} <= flags


def test_the_rigs_play_what_the_consumer_takes() -> None:
    services = read(DEPLOY / "compose.yaml")["services"]
    words = services["rigs"]["entrypoint"]
    for settings in (check({**image_environment(), **services["consumer"]["environment"]}), check(literals())):
        assert str(settings.size) == words[words.index("--size") + 1]
        assert str(settings.fps) == words[words.index("--fps") + 1]


def test_kafka_is_the_one_that_the_tests_run() -> None:
    tested = re.search(r"kafka_2\.13</artifactId>\s*<version>([\d.]+)<", (DEPLOY / "local/pom.xml").read_text("utf-8"))
    assert tested
    for path in (DEPLOY / "compose.yaml", KUBERNETES / "overlays/local/kafka.yaml"):
        assert re.findall(r"image: apache/kafka:(\S+)", path.read_text("utf-8")) == [tested[1]]


def test_keda_watches_the_group_and_the_topic_that_are_read() -> None:
    settings = check(literals())
    spec = read(KUBERNETES / "overlays/keda/scaledobject.yaml")["spec"]
    (trigger,) = spec["triggers"]
    assert trigger["metadata"]["topic"] == settings.frames_topic
    assert trigger["metadata"]["consumerGroup"] == settings.group_id
    assert trigger["metadata"]["bootstrapServers"] == settings.bootstrap_servers
    assert spec["minReplicaCount"] == 1


@cache
def built(overlay: str) -> dict[str, dict[str, Any]]:
    """What kustomize makes of an overlay, by kind and name."""
    command = ["kubectl", "kustomize", str(KUBERNETES / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # warnings are of what will be an error
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(done.stdout)}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize(
    ("overlay", "kind"),
    [
        ("base", "StatefulSet"),
        ("overlays/scaled", "Deployment"),
        ("overlays/keda", "Deployment"),
        ("overlays/local", "StatefulSet"),
    ],
)
def test_every_overlay_runs_the_consumer_safely(overlay: str, kind: str) -> None:
    found = built(overlay)
    workload = found[f"{kind}/padreel"]["spec"]
    assert workload["selector"]["matchLabels"] == LABEL == workload["template"]["metadata"]["labels"]
    pod = workload["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert pod["terminationGracePeriodSeconds"] >= 120
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "metrics"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    volumes = {volume["name"] for volume in pod["volumes"]}
    volumes |= {one["metadata"]["name"] for one in workload.get("volumeClaimTemplates", ())}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    (settings,) = [key for key in found if re.fullmatch(r"ConfigMap/padreel-[a-z0-9]{10}", key)]
    assert {"configMapRef": {"name": settings.partition("/")[2]}} in container["envFrom"]
    check(found[settings]["data"])
    assert found["PodDisruptionBudget/padreel"]["spec"]["selector"]["matchLabels"] == LABEL
    if overlay != "overlays/local":
        assert found["PodMonitor/padreel"]["spec"]["selector"]["matchLabels"] == LABEL
        assert found["PodMonitor/padreel"]["spec"]["podMetricsEndpoints"][0]["port"] == "metrics"
    replicas = {"base": 1, "overlays/scaled": 2, "overlays/keda": None, "overlays/local": 1}
    assert workload.get("replicas") == replicas[overlay]
    if kind == "Deployment":
        assert workload["strategy"] == {"type": "Recreate"}
        assert found["PersistentVolumeClaim/padreel"]["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_network_policy_is_one_component_of_the_consumer(tmp_path: Path) -> None:
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../kubernetes/base"],
        "components": ["../kubernetes/components/network-policy"],
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/kustomization.yaml").write_text(yaml.safe_dump(overlay))
    done = subprocess.run(["kubectl", "kustomize", str(tmp_path / "mine")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (policy,) = [one for one in yaml.safe_load_all(done.stdout) if one["kind"] == "NetworkPolicy"]
    assert policy["spec"]["podSelector"]["matchLabels"] == LABEL


def said_of(text: str, folder: Path, version: str) -> tuple[int, list[str]]:
    """What `kubernetes-validate --strict` says of manifests: its exit code, and all but what is in order."""
    path = folder / "manifests.yaml"
    path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return done.returncode, [line for line in lines if not line.startswith("INFO ")]


def unknown_kinds(lines: list[str]) -> tuple[set[tuple[str, str]], list[str]]:
    """Of the warnings the API versions and kinds that `kubernetes-validate` has no schema of, and everything else."""
    warning = re.compile(
        r"WARN \S+ Couldn't find schema for kind (\S+) with api version (\S+) for kubernetes version \S+"
    )
    found = [warning.fullmatch(line) for line in lines]
    other = [line for line, match in zip(lines, found, strict=True) if match is None]
    return {(match[2], match[1]) for match in found if match is not None}, other


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_field_is_one_of_kubernetes(version: str, tmp_path: Path) -> None:
    resources = [one for overlay in OVERLAYS for one in built(overlay).values()]
    code, lines = said_of(yaml.safe_dump_all(resources), tmp_path, version)
    assert code == 0, lines
    unknown, other = unknown_kinds(lines)
    assert other == []
    assert unknown == set(custom_resources.known())


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_field_of_a_custom_resource_is_one_of_its_operator(overlay: str) -> None:
    found = [one for one in built(overlay).values() if (one["apiVersion"], one["kind"]) in custom_resources.known()]
    assert [problem for one in found for problem in custom_resources.problems(one)] == []
    kinds = {"overlays/keda": {"PodMonitor", "ScaledObject"}, "overlays/local": set()}
    assert {one["kind"] for one in found} == kinds.get(overlay, {"PodMonitor"})


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_what_kubernetes_does_not_know_is_found(tmp_path: Path) -> None:
    changed = copy.deepcopy(built("base")["StatefulSet/padreel"])
    changed["spec"]["template"]["spec"]["containers"][0]["livenessProbes"] = {}
    code, lines = said_of(yaml.safe_dump(changed), tmp_path, KUBERNETES_VERSIONS[-1])
    assert code == 1
    assert "livenessProbes" in lines[0]
    _, lines = said_of(yaml.safe_dump({**changed, "apiVersion": "apps/v2"}), tmp_path, KUBERNETES_VERSIONS[-1])
    assert unknown_kinds(lines) == ({("apps/v2", "StatefulSet")}, [])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize(
    ("resource", "path", "value", "says"),
    [
        ("ScaledObject/padreel", ("spec", "maxReplicas"), 8, "'maxReplicas' was unexpected"),
        ("ScaledObject/padreel", ("spec", "minReplicaCount"), "1", "'1' is not of type 'integer'"),
        (
            "ScaledObject/padreel",
            ("spec", "triggers", 0, "metadata", "lagTreshold"),
            "1",
            "'lagTreshold' was unexpected",
        ),
        ("ScaledObject/padreel", ("spec", "triggers", 0, "metadata", "lagThreshold"), 1, "1 is not of type 'string'"),
        (
            "ScaledObject/padreel",
            ("spec", "triggers", 0, "metadata", "offsetResetPolicy"),
            "oldest",
            "'oldest' is not one",
        ),
        ("ScaledObject/padreel", ("spec", "triggers", 0, "type"), "apache-kafka", "'kafka' was expected"),
        ("ScaledObject/padreel", ("metadata", "label"), {}, "'label' was unexpected"),
        ("PodMonitor/padreel", ("spec", "endpoints"), [], "'endpoints' was unexpected"),
        ("PodMonitor/padreel", ("spec", "podMetricsEndpoints", 0, "interval"), "15 s", "does not match"),
        ("PodMonitor/padreel", ("spec", "selector"), None, "None is not of type 'object'"),
    ],
)
def test_what_an_operator_does_not_know_is_found(
    resource: str, path: tuple[str | int, ...], value: object, says: str
) -> None:
    changed = copy.deepcopy(built("overlays/keda")[resource])
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    (problem,) = custom_resources.problems(changed)
    assert says in problem
