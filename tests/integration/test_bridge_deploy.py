"""The files of the page about deployment: each is complete, they fit together, and what can be run of them here is run."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.config_types import parse_duration
from pynats_twisted.bridge.demo import free_port
from pynats_twisted.testing import ServerProcess

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = ROOT / "docs" / "examples" / "deploy"
PAGE = ROOT / "docs" / "howto" / "bridge-deploy.rst"
COMMAND = [sys.executable, "-c", "from pynats_twisted.bridge.tap import main; main()"]
CREDENTIALS = "/run/credentials/nats-bridge.service/"
PROGRAM = "/opt/bridge/bin/nats-bridge"
CONFIG = "/etc/bridge/bridge.toml"
TIMEOUT = 30.0

SECRETS = {
    "NATS_PASSWORD": "nats-secret",
    "ADMIN_PASSWORD": "owner-secret",
    "API_TOKENS": "api-secret",
    "BRIDGE_ADMIN_TOKEN": "admin-secret",
}


def text_of(name: str) -> str:
    return (FILES / name).read_text("utf-8")


def unit(name: str) -> dict[str, list[str]]:
    """The settings of a unit file by their names. A setting may be there several times."""
    found: dict[str, list[str]] = {}
    for line in text_of(name).splitlines():
        if line and not line.startswith(("#", "[")):
            key, is_setting, value = line.partition("=")
            assert is_setting, line
            found.setdefault(key, []).append(value)
    return found


def containerfile() -> list[tuple[str, str]]:
    """The instructions of the container file."""
    text = re.sub(r"^#.*\n", "", text_of("Containerfile"), flags=re.MULTILINE).replace("\\\n", "")
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in text.splitlines() if line]


def instruction(name: str) -> list[str]:
    return [value for key, value in containerfile() if key == name]


def objects() -> dict[str, Any]:
    """The objects of the Kubernetes manifest by their kinds."""
    found = list(yaml.safe_load_all(text_of("kubernetes.yaml")))
    by_kind = {each["kind"]: each for each in found}
    assert len(by_kind) == len(found)
    return by_kind


def configurations() -> dict[str, str]:
    """Every configuration of a bridge."""
    return {
        "systemd": text_of("bridge-systemd.toml"),
        "container": text_of("bridge-container.toml"),
        "kubernetes": objects()["ConfigMap"]["data"]["bridge.toml"],
    }


def port_of(endpoint: str) -> int:
    return int(endpoint.split(":")[1])


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **SECRETS, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]), **more}


class FileTests(SynchronousTestCase):
    """What can be said of the files without running anything."""

    def test_all_of_them_are_on_the_page(self) -> None:
        """The page shows each file as it is."""
        shown = set(re.findall(r"literalinclude:: \.\./examples/deploy/(\S+)", PAGE.read_text("utf-8")))
        self.assertEqual(shown, {path.name for path in FILES.iterdir()})

    def test_time_to_drain(self) -> None:
        """Whoever ends the bridge gives it more time than its ``drain_timeout``."""
        times = {
            "systemd": parse_duration(unit("nats-bridge.service")["TimeoutStopSec"][0]),
            "container": parse_duration(yaml.safe_load(text_of("compose.yaml"))["services"]["bridge"]["stop_grace_period"]),
        }
        pod = objects()["Deployment"]["spec"]["template"]["spec"]
        wait = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual(wait[0], "sleep")
        times["kubernetes"] = pod["terminationGracePeriodSeconds"] - int(wait[1])
        for name, text in configurations().items():
            self.assertGreater(times[name], parse_duration(tomllib.loads(text)["bridge"]["drain_timeout"]), name)

    def test_systemd_units(self) -> None:
        """The service takes the socket that its configuration names, and gets the credentials that it reads."""
        service, sock, config = unit("nats-bridge.service"), unit("nats-bridge.socket"), text_of("bridge-systemd.toml")
        self.assertEqual(service["ExecStart"], [f"{PROGRAM} --config {CONFIG}"])
        self.assertEqual(service["ExecStartPre"], [f"{PROGRAM} --config {CONFIG} --check"])
        self.assertEqual(service["ExecReload"], [f"{PROGRAM} --config {CONFIG} --check", "/bin/kill -HUP $MAINPID"])
        self.assertIn("nats-bridge.socket", service["Requires"][0].split())
        self.assertEqual(sock["Service"], ["nats-bridge.service"])
        endpoint = tomllib.loads(config)["listen"]["public"]["endpoint"]
        self.assertEqual(endpoint, f"systemd:domain=INET:name={sock['FileDescriptorName'][0]}")
        self.assertRegex(sock["ListenStream"][0], r"^[0-9.]+:[0-9]+$", "an IPv4 address, as domain=INET says")
        wanted = re.findall(rf'"{CREDENTIALS}([^"]+)"', config)
        self.assertTrue(wanted)
        self.assertEqual(sorted(wanted), sorted(credential.split(":")[0] for credential in service["LoadCredential"]))

    def test_container(self) -> None:
        """The image has what an installation needs, runs the bridge as nobody in particular, and tells its ports."""
        copied = [word for value in instruction("COPY") if "--from" not in value for word in value.split()[:-1]]
        self.assertEqual([name for name in copied if not (ROOT / name).exists()], [])
        self.assertGreaterEqual(set(copied), {"setup.py", "pyproject.toml", "README.rst", "LICENSE", "pynats_twisted", "twisted"})
        self.assertIn('"nats-bridge = pynats_twisted.bridge.tap:main"', (ROOT / "setup.py").read_text("utf-8"))
        self.assertEqual([*json.loads(instruction("ENTRYPOINT")[0]), *json.loads(instruction("CMD")[0])], [PROGRAM, "--config", CONFIG])
        self.assertRegex(instruction("USER")[0], r"^[1-9][0-9]*:[1-9][0-9]*$")
        config = tomllib.loads(text_of("bridge-container.toml"))
        ports = {port_of(config["listen"]["public"]["endpoint"]), port_of(config["admin"]["listen"])}
        self.assertEqual({int(port) for port in instruction("EXPOSE")[0].split()}, ports)
        # 0: when it is well; after "CMD" stands what asks.
        self.assertIn(f":{port_of(config['admin']['listen'])}/healthz", instruction("HEALTHCHECK")[0])

    def test_compose(self) -> None:
        """The services get the variables and files that they read, and the ports that are published are those of the bridge."""
        services = yaml.safe_load(text_of("compose.yaml"))["services"]
        bridge, config = services["bridge"], text_of("bridge-container.toml")
        self.assertEqual((FILES / bridge["build"]["context"]).resolve(), ROOT)
        self.assertEqual((ROOT / bridge["build"]["dockerfile"]).resolve(), FILES / "Containerfile")
        self.assertEqual(bridge["volumes"], [f"./bridge-container.toml:{CONFIG}:ro"])
        self.assertEqual(set(bridge["environment"]), set(re.findall(r'env = "(\w+)"', config)))
        self.assertEqual(set(services["nats"]["environment"]), set(re.findall(r"\$(\w+)", text_of("nats-server.conf"))))
        ports = {int(port.rpartition(":")[2]) for port in bridge["ports"]}
        parsed = tomllib.loads(config)
        self.assertEqual(ports, {port_of(parsed["listen"]["public"]["endpoint"]), port_of(parsed["admin"]["listen"])})
        (url,) = parsed["nats"]["default"]["servers"]
        self.assertIn(url.removeprefix("nats://").partition(":")[0], services)
        for mount in (mount for service in services.values() for mount in service.get("volumes", []) if mount.startswith("./")):
            self.assertTrue((FILES / mount.partition(":")[0]).is_file(), mount)

    def test_kubernetes(self) -> None:
        """Names, labels, ports and variables of the objects fit together, and the pod runs without any privilege."""
        found = objects()
        pod = found["Deployment"]["spec"]["template"]
        spec = pod["spec"]
        (container,) = spec["containers"]
        labels = pod["metadata"]["labels"]
        for selector in (
            found["Deployment"]["spec"]["selector"]["matchLabels"],
            found["Service"]["spec"]["selector"],
            found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        ):
            self.assertLessEqual(selector.items(), labels.items())
        config = found["ConfigMap"]["data"]["bridge.toml"]
        parsed = tomllib.loads(config)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        self.assertEqual(ports, {"http": port_of(parsed["listen"]["public"]["endpoint"]), "admin": port_of(parsed["admin"]["listen"])})
        self.assertEqual([port["targetPort"] for port in found["Service"]["spec"]["ports"]], ["http"], "not the admin endpoint")
        probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
        paths = {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
        self.assertEqual(probes, {name: {"path": path, "port": "admin"} for name, path in paths.items()})
        self.assertEqual(pod["metadata"]["annotations"]["prometheus.io/port"], str(ports["admin"]))
        (mount,), (volume,) = container["volumeMounts"], spec["volumes"]
        self.assertEqual(mount["name"], volume["name"])
        self.assertEqual(volume["configMap"]["name"], found["ConfigMap"]["metadata"]["name"])
        self.assertEqual(container["args"], ["--config", f"{mount['mountPath']}/bridge.toml"])
        self.assertEqual(container["envFrom"], [{"secretRef": {"name": found["Secret"]["metadata"]["name"]}}])
        self.assertEqual(set(found["Secret"]["stringData"]), set(re.findall(r'env = "(\w+)"', config)))
        self.assertTrue(spec["securityContext"]["runAsNonRoot"])
        self.assertFalse(container["securityContext"]["allowPrivilegeEscalation"])
        self.assertEqual(container["securityContext"]["capabilities"], {"drop": ["ALL"]})


class RunningTests(SynchronousTestCase):
    """The configurations and what is around them, as far as they run without systemd and containers."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        (self.folder / "credentials").mkdir(parents=True)
        for name, secret in (("nats-password", "NATS_PASSWORD"), ("api-tokens", "API_TOKENS"), ("admin-token", "BRIDGE_ADMIN_TOKEN")):
            (self.folder / "credentials" / name).write_text(SECRETS[secret] + "\n")

    def write(self, text: str) -> str:
        path = self.folder / "bridge.toml"
        path.write_text(text.replace(CREDENTIALS, f"{self.folder}/credentials/"), "utf-8")
        return str(path)

    def test_configurations_are_valid(self) -> None:
        """``nats-bridge --check`` has nothing against any of them."""
        for name, text in configurations().items():
            command = [*COMMAND, "--config", self.write(text), "--check=json"]
            done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False)
            report = json.loads(done.stdout)
            self.assertEqual((done.returncode, report["ok"], report["problems"], report["warnings"]), (0, True, [], []), name)

    @contextmanager
    def nats(self) -> Iterator[ServerProcess]:
        """The server of the compose file, with the stream that is made once."""
        config = text_of("nats-server.conf").replace("/data", str(self.folder / "data"))
        for name in ("ADMIN_PASSWORD", "NATS_PASSWORD"):
            config = config.replace(f"${name}", SECRETS[name])
        with ServerProcess.running(config=config) as server:
            code = (
                "import sys\nfrom pynats_twisted.blocking import connect\n"
                "with connect(sys.argv[1], user='admin', password=sys.argv[2]) as nc:\n"
                '    body = b\'{"name": "ORDERS", "subjects": ["orders.>"]}\'\n'
                "    print(nc.request('$JS.API.STREAM.CREATE.ORDERS', body, timeout=20.0).data.decode())\n"
            )
            command = [sys.executable, "-c", code, server.url, SECRETS["ADMIN_PASSWORD"]]
            done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False)
            self.assertIn('"name":"ORDERS"', done.stdout, done.stderr)
            yield server

    @contextmanager
    def bridge(self, config: str, inherited: socket.socket | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """A running bridge; with *inherited*, its third file descriptor, as systemd hands it over."""
        command, variables, descriptors = [*COMMAND, "--config", self.write(config)], environment(), ()
        if inherited is not None:
            # A shell knows its process before it becomes the bridge.
            move = f"exec 3<&{inherited.fileno()}; " if inherited.fileno() != 3 else ""
            command = ["/bin/sh", "-c", f'{move}LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec "$@"', "sh", *command]
            descriptors = (inherited.fileno(),)
        process = subprocess.Popen(command, env=variables, pass_fds=descriptors, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            yield process
            process.terminate()
            output, _ = process.communicate(timeout=TIMEOUT)
            self.assertEqual(process.returncode, 0, output)
            self.assertNotIn(b"Traceback", output)
        finally:
            process.kill()
            process.communicate()

    def post(self, port: int) -> tuple[int, dict[str, Any]]:
        """An order; 503 means that the bridge is not connected to NATS yet."""
        url, deadline = f"http://127.0.0.1:{port}/orders/eu", time.monotonic() + TIMEOUT
        request = urllib.request.Request(url, b"tea", {"Authorization": f"Bearer {SECRETS['API_TOKENS']}"})
        while True:
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code != 503 or time.monotonic() > deadline:
                    raise
            except urllib.error.URLError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def test_container_with_its_server(self) -> None:
        """With the server of the compose file and the permissions there, an order is stored, and the health check of the image passes."""
        http, admin = free_port(0), free_port(0)
        with self.nats() as server:
            config = text_of("bridge-container.toml").replace("nats://nats:4222", server.url)
            config = config.replace('"tcp:8080"', f'"tcp:{http}:interface=127.0.0.1"').replace(
                '"tcp:8223"', f'"tcp:{admin}:interface=127.0.0.1"'
            )
            with self.bridge(config):
                self.assertEqual(self.post(http), (202, {"stream": "ORDERS", "seq": 1, "duplicate": False}))
                check = json.loads(instruction("HEALTHCHECK")[0].partition("CMD ")[2])
                code = check[-1].replace("8223", str(admin))
                self.assertEqual(subprocess.run([sys.executable, "-c", code], timeout=TIMEOUT, check=False).returncode, 0)
            self.assertEqual(server.log_tail().count("Permissions Violation"), 0)
        gone = subprocess.run([sys.executable, "-c", code], timeout=TIMEOUT, capture_output=True, check=False)
        self.assertNotEqual(gone.returncode, 0, "the health check of a bridge that is gone")

    def test_restart_behind_a_socket(self) -> None:
        """With the socket of systemd a request that comes while no bridge runs is answered by the next one."""
        admin = free_port(0)
        with self.nats() as server, socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            config = text_of("bridge-systemd.toml").replace("nats://127.0.0.1:4222", server.url)
            config = config.replace("[admin]\n", f'[admin]\nlisten = "tcp:{admin}:interface=127.0.0.1"\n')
            with self.bridge(config, listening):
                self.assertEqual(self.post(port), (202, {"stream": "ORDERS", "seq": 1, "duplicate": False}))
            with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as waiting:
                head = f"GET /nowhere HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRETS['API_TOKENS']}\r\nConnection: close\r\n\r\n"
                waiting.sendall(head.encode())
                with self.bridge(config, listening):
                    self.assertTrue(waiting.recv(65536).startswith(b"HTTP/1.1 404"))
                    self.assertEqual(self.post(port), (202, {"stream": "ORDERS", "seq": 2, "duplicate": False}))
