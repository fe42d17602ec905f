"""The settings file of the local Kafka node, and the ports in it; standard library only."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HOST = "127.0.0.1"
CLIENTS, CONTROLLER = "PLAINTEXT", "CONTROLLER"
# A 4K keyframe is some megabytes; with the margin no test needs another broker.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")

_LOGIN_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}


@dataclass(frozen=True, slots=True)
class Listener:
    """One more port of the node; `name`, in capitals, tells it from the others.

    `port` None is the last one used, else a free one. Clients are sent on to the advertised address, by default that
    of the listener itself: a proxy's, if they are to stay behind it. TLS needs `certificate`, a PEM file with the
    private key (PKCS #8) and the chain; with `client_ca`, a PEM file too, clients need a certificate signed by it.
    """

    name: str
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    port: int | None = None
    advertised_port: int | None = None
    advertised_host: str = HOST
    certificate: Path | None = None
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", self.name) or self.name in (CLIENTS, CONTROLLER):
            raise ValueError(f"listener {self.name!r}: expected a name in capitals, not {CLIENTS} or {CONTROLLER}")
        if self.protocol.endswith("SSL") != (self.certificate is not None):
            raise ValueError(f"listener {self.name}: {self.protocol} with certificate {self.certificate}")


def server_properties(
    data: Path, ports: Mapping[str, int], listeners: Sequence[Listener], users: Mapping[str, str]
) -> dict[str, object]:
    """All settings of a node with its data in `data`; `ports` is by listener, CLIENTS and CONTROLLER among them.

    The listeners with SASL take `users`, passwords by name, by PLAIN and, once they were made with the storage, SCRAM.
    """
    bound = {name: f"{HOST}:{port}" for name, port in ports.items()}
    advertised = bound | {
        one.name: f"{one.advertised_host}:{one.advertised_port or ports[one.name]}" for one in listeners
    }
    protocols = {CLIENTS: "PLAINTEXT", CONTROLLER: "PLAINTEXT"} | {one.name: one.protocol for one in listeners}
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.bootstrap.servers": bound[CONTROLLER],
        "controller.listener.names": CONTROLLER,
        "listeners": ",".join(f"{name}://{address}" for name, address in bound.items()),
        "advertised.listeners": ",".join(f"{name}://{address}" for name, address in advertised.items()),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "inter.broker.listener.name": CLIENTS,
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "default.replication.factor": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
        "socket.request.max.bytes": 2 * MAX_MESSAGE_BYTES,
        # Each idle thread wakes several times a second: on two busy cores that adds up.
        "num.network.threads": 1,
        "num.io.threads": 2,
        "background.threads": 2,
        "group.coordinator.threads": 1,
        # One member or two: waiting three seconds for more of them would only slow every test down.
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # The only node has nobody to hand over to: being slow on a busy machine must neither end nor fence it.
        "initial.broker.registration.timeout.ms": 600_000,
        "broker.session.timeout.ms": 120_000,
    }
    for listener in listeners:
        settings |= _secured(listener, users)
    return settings


def _secured(listener: Listener, users: Mapping[str, str]) -> dict[str, object]:
    """What a listener's protocol needs."""
    settings: dict[str, object] = {}
    if listener.certificate is not None:
        settings |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": listener.certificate.absolute()}
        if listener.client_ca is not None:
            settings |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": listener.client_ca.absolute()}
            settings["ssl.client.auth"] = "required"
    if listener.protocol.startswith("SASL"):
        settings["sasl.enabled.mechanisms"] = ",".join(_LOGIN_MODULES)
        for mechanism, module in _LOGIN_MODULES.items():
            known = {f"user_{name}": password for name, password in users.items()} if mechanism == "PLAIN" else {}
            options = "".join(f' {name}="{value}"' for name, value in known.items())
            settings[f"{mechanism.lower()}.sasl.jaas.config"] = f"{module} required{options};"
    return {f"listener.name.{listener.name.lower()}.{name}": value for name, value in settings.items()}


def ports_of(properties: str) -> dict[str, int]:
    """The listeners' ports by name in a settings file's text; empty if it is not as `server_properties` has it."""
    found = re.search(r"^listeners=(.+)$", properties, re.M)
    addresses = found[1].split(",") if found else []
    ports = [re.fullmatch(rf"(\w+)://{re.escape(HOST)}:(\d+)", address) for address in addresses]
    by_name = {port[1]: int(port[2]) for port in ports if port is not None}
    return by_name if {CLIENTS, CONTROLLER} <= by_name.keys() else {}
