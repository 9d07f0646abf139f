"""compose.yaml is consistent in itself and with the server, as far as can be checked without running it."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any

import pytest
import yaml
from environs import Env

from chatserver.settings import Settings, _read
from tests.support.servers import ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
NODES = {
    name: service
    for name, service in SERVICES.items()
    if "NODE_NAME" in service.get("environment", {})
}
HAPROXY = (ROOT / "config" / "haproxy.cfg").read_text()
KEYS = {
    *("build", "image", "command", "environment", "ports", "volumes", "depends_on"),
    *("healthcheck", "restart", "stop_grace_period"),
}
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


class Reading:
    """An environment that records the keys that are read."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self._env = Env()

    def __getattr__(self, kind: str) -> Any:
        def read(key: str, *args: Any, **kwargs: Any) -> Any:
            self.keys.add(key)
            return getattr(self._env, kind)(key, *args, **kwargs)

        return read


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Returns every key that the server reads."""
    reading = Reading()
    _read(reading)  # type: ignore[arg-type]
    return reading.keys


def test_every_setting_exists_and_the_example_has_all_of_them(known: set[str]) -> None:
    assert len(NODES) == 2
    for node in NODES.values():
        assert set(node["environment"]) <= known
    asked = {name for name, _ in VARIABLE.findall((ROOT / "compose.yaml").read_text())}
    assert asked <= known
    example = (ROOT / "config" / "example.env").read_text()
    assert set(re.findall(r"^#([A-Z_]+)=", example, re.MULTILINE)) == known


@pytest.mark.parametrize("env", ["development", "production"])
def test_a_node_starts_with_the_settings_that_it_is_given(
    monkeypatch: pytest.MonkeyPatch, env: str
) -> None:
    given = {"ENV": env}
    if env == "production":
        given |= dict.fromkeys(
            ("AUTH_JWT_SECRET", "INTERNAL_API_SECRET", "WEBHOOK_SECRET"), "s" * 32
        )
    names = set()
    for node in NODES.values():
        for key, value in node["environment"].items():
            assert isinstance(value, str), f"{key} would be read as something else"
            text = VARIABLE.sub(lambda found: given.get(found[1], found[2]), value)
            monkeypatch.setenv(key, text)
        settings = Settings.from_environment()
        assert settings.production == (env == "production")
        assert settings.host == ("0.0.0.0",), "the proxy connects from outside"  # noqa: S104
        names.add(settings.node_name)
        (network,) = COMPOSE["networks"]["default"]["ipam"]["config"]
        assert settings.trusted_proxies == (ip_network(network["subnet"]),)
        assert int(node["stop_grace_period"].removesuffix("s")) >= settings.drain_s + 15
        for url, service in ((settings.mongo_url, "mongo"), (settings.redis_url, "redis")):
            assert re.match(rf"\w+://{service}:\d+/", url)
            assert node["depends_on"][service] == {"condition": "service_healthy"}
    assert names == {"a", "b"}


def test_everything_that_is_named_exists() -> None:
    assert set(COMPOSE) <= {"services", "networks", "volumes", "x-chat", "x-settings"}
    for name, service in SERVICES.items():
        assert set(service) <= KEYS, name
        assert ("image" in service) or ("build" in service)
        if "build" in service:
            assert (ROOT / service["build"] / "Dockerfile").is_file()
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            # The Dockerfile may contain the check.
            assert "healthcheck" in SERVICES[other] or "build" in SERVICES[other]
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).is_file(), source
            else:
                assert source in COMPOSE["volumes"]
        for port in service.get("ports", []):
            assert re.fullmatch(r"([\d.]+:)?\d+:\d+", port)
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_the_proxy_knows_the_nodes_and_the_nodes_the_proxy() -> None:
    hosts = {
        host for host, _ in re.findall(r"^\s+server \w+ ([\w-]+):(\d+)$", HAPROXY, re.MULTILINE)
    }
    assert hosts == set(NODES)
    for host, node in NODES.items():
        name = node["environment"]["NODE_NAME"]
        assert f"use_backend node_{name} if {{ urlp(sid) -m beg {name}. }}" in HAPROXY
        backend = HAPROXY.partition(f"\nbackend node_{name}\n")[2].partition("\n\n")[0]
        assert f"server {name} {host}:3001" in backend
        assert "ports" not in node, "nobody gets past the proxy"
    inside = {port.split(":")[-1] for port in SERVICES["proxy"]["ports"]}
    assert inside == set(re.findall(r"^\s+bind :(\d+)$", HAPROXY, re.MULTILINE))
    (master,) = [port for port in SERVICES["proxy"]["ports"] if port.endswith(":8081")]
    assert master.startswith("127.0.0.1:"), "the Master Service's door is not for the outside"


def test_the_replica_set_is_the_one_that_the_nodes_ask_for() -> None:
    mongo = SERVICES["mongo"]
    (name,) = {
        re.search(r"replicaSet=(\w+)", node["environment"]["MONGO_URL"])[1]  # type: ignore[index]
        for node in NODES.values()
    }
    assert mongo["command"][mongo["command"].index("--replSet") + 1] == name
    made = mongo["healthcheck"]["test"][-1]
    assert f'rs.initiate({{_id: "{name}"' in made
    assert 'host: "mongo:27017"' in made
    assert "transactionLifetimeLimitSeconds=2" in mongo["command"]
