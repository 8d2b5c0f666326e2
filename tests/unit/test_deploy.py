"""The files of docs/examples/deploy are valid, and name only what the command line, the pages and the lock have."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from promoter_core import Registry
from promoter_core.cli.app import build
from tests.servers import free_port
from tests.typed import present, untyped

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs/examples/deploy"
PAGES = sorted((ROOT / "docs/how-to/deploy").glob("*.md"))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
POD = MANIFESTS[0]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def command(name):
    _, found, _ = typer.main.get_group(build(Registry)).resolve_command(untyped(None), [name])
    assert found
    return found


def variables():
    """The variables of the environment that commands read."""
    names = {"PROMOTER_DEBUG"}
    for name in typer.main.get_group(build(Registry)).list_commands(untyped(None)):
        for parameter in command(name).params:
            found = parameter.envvar
            names |= {found} if isinstance(found, str) else set(found or ())
    return names


@pytest.mark.parametrize("path", [*sorted(DEPLOY.iterdir()), *PAGES], ids=lambda path: path.name)
def test_variables_of_the_environment_exist(path):
    assert set(re.findall(r"\bPROMOTER_[A-Z_]+", path.read_text())) <= variables()


@pytest.mark.parametrize("version", ["1.30", None], ids=["1.30", "newest"])
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_manifests_are_valid_for_kubernetes(manifest, version):
    validator = pytest.importorskip("kubernetes_validate")
    version = version or validator.latest_version()
    validator.validate(manifest, version, strict=True)
    manifest = json.loads(json.dumps(manifest)) | {"specs": {}}
    with pytest.raises(validator.ValidationError):
        validator.validate(manifest, version, strict=True)


def test_the_container_runs_options_that_exist_and_is_probed_where_it_answers():
    name, *words = CONTAINER["args"]
    options = {option for parameter in command(name).params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options
    env = {entry["name"]: entry.get("value") for entry in CONTAINER["env"]}
    (port,) = CONTAINER["ports"]
    assert env["PROMOTER_HTTP"].endswith(f":{port['containerPort']}")
    pages = (ROOT / "promoter_core/web/server.py").read_text()
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        get = CONTAINER[probe]["httpGet"]
        assert get["port"] == port["name"]
        assert f'web.get("{get["path"]}"' in pages
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/livez", "an outage of the store must restart no pod"


def test_all_parts_select_the_same_pods_which_have_time_to_release_their_locks():
    deployment, budget = MANIFESTS
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"] == budget["spec"]["selector"]["matchLabels"]
    assert deployment["spec"]["replicas"] > budget["spec"]["minAvailable"], "otherwise a node cannot be drained"
    assert POD["terminationGracePeriodSeconds"] >= 10
    assert POD["securityContext"]["runAsNonRoot"]
    assert "PROMOTER_HOLDER_ID" not in str(deployment), "pods must not share an identity"


def test_the_image_has_no_rights_and_only_what_the_lock_file_has():
    assert re.search(r"^USER [1-9]\d*", DOCKERFILE, re.M)
    assert "--require-hashes -r" in DOCKERFILE
    port = present(re.search(r"^EXPOSE (\d+)", DOCKERFILE, re.M))[1]
    assert f"PROMOTER_HTTP=0.0.0.0:{port}" in DOCKERFILE
    assert f"http://127.0.0.1:{port}/livez" in DOCKERFILE
    for source in re.findall(r"^COPY (docs/\S+)", DOCKERFILE, re.M):
        assert (ROOT / source).is_file()


def test_the_health_check_fails_unless_the_page_answers():
    command = json.loads(present(re.search(r"CMD (\[\"python\".*\])", DOCKERFILE))[1])

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/livez" else 404)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def check(path, port):
            code = command[2].replace(":9464/livez", f":{port}{path}")
            return subprocess.run([sys.executable, *command[1:2], code], capture_output=True, timeout=30).returncode

        assert check("/livez", server.server_port) == 0
        assert check("/gone", server.server_port) == 1
        server.shutdown()
    assert check("/livez", free_port()) == 1


def pins(path):
    """The name of each pinned distribution, its version and the number of its hashes."""
    for entry in re.split(r"\n(?=\S)", path.read_text()):
        if found := re.match(r"([\w.-]+)(?:\[.*\])?==(\S+)", entry):
            yield canonicalize_name(found[1]), found[2], entry.count("--hash=sha256:")


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        (DEPLOY / "requirements.lock", ["redis", "cli", "http", "prometheus", "uvloop"]),
        (ROOT / "locks/development.txt", None),
    ],
    ids=["image", "development"],
)
def test_a_lock_file_has_every_requirement_with_hashes_and_in_range(lock, extras):
    """When it fails after a change of pyproject.toml: `make lock`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *(text for extra in extras or groups for text in groups[extra])]
    if extras is None:
        included = ("test", "dev", "docs")
        wanted += [text for group in included for text in project["dependency-groups"][group] if isinstance(text, str)]
    found = {name: version for name, version, _ in pins(lock)}
    assert all(hashes for _, _, hashes in pins(lock))
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name != "promoter-core" and (requirement.marker is None or requirement.marker.evaluate()):
            assert name in found, name
            assert requirement.specifier.contains(found[name]), f"{requirement}: {found[name]}"
    assert "://" not in lock.read_text(), "no index is named, so that any mirror will do"


def test_compose_starts_what_the_dockerfile_builds():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    built = compose["services"]["promoter"]["build"]
    assert (DEPLOY / built["context"]).resolve() == ROOT
    assert (ROOT / built["dockerfile"]).is_file()
    assert compose["services"]["promoter"]["environment"]["PROMOTER_URL"] == "redis://valkey:6379"
    assert "valkey" in compose["services"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_valid_for_systemd(tmp_path):
    text = (DEPLOY / "promoter.service").read_text()

    def verify(text):
        unit = tmp_path / "promoter.service"
        unit.write_text(text)
        environment = os.environ | {"SYSTEMD_LOG_LEVEL": "warning"}
        run = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, env=environment, timeout=60
        )
        return run.returncode, [line for line in run.stderr.splitlines() if "promoter.service" in line]

    text = text.replace("/opt/promoter/bin/promoter", sys.executable)
    assert verify(text) == (0, [])
    assert verify(text.replace("Restart=", "Restert="))[1], "a misspelt name is found"
