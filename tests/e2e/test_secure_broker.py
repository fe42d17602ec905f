"""A real broker that asks who its clients are and shows who it is: what fits works, what does not is named."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.local.broker import Broker, LocalBrokerError
from deploy.local.properties import Listener
from padreel.errors import BrokerError
from padreel.kafka.topics import check_topics
from padreel_schemas.security import PLAINTEXT, Security, checked_security
from padreel_shim.producer import PublishError, RigProducer
from padreel_shim.topics import TopicsError, create_topics
from tests.certificates import Authority
from tests.conftest import CHECKOUT, TopicNames
from tests.dataset_reading import by_session, shards
from tests.e2e.processes import Rig, consumer, run_shim

pytestmark = [pytest.mark.broker, pytest.mark.timeout(3600)]

USER, PASSWORD, WRONG_PASSWORD, KEY_PASSWORD = "rig", "correct-horse", "wrong-zebra", "battery-staple"
SECRETS = (PASSWORD, WRONG_PASSWORD, KEY_PASSWORD)
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True)
class World:
    """A broker with a listener for each thing that can be wrong, and the CAs about it."""

    node: Broker
    authority: Authority
    stranger: Authority

    def user(self, mechanism: str = "SCRAM-SHA-512", password: str = PASSWORD, **more: Any) -> Security:
        """A user over TLS."""
        settings: dict[str, Any] = {
            "security_protocol": "SASL_SSL",
            "ssl_ca_file": self.authority.file,
            "sasl_mechanism": mechanism,
            "sasl_username": USER,
            "sasl_password": password,
        }
        return checked_security(**settings | more)

    def tls(self, **more: Any) -> Security:
        return checked_security(security_protocol="SSL", **{"ssl_ca_file": self.authority.file, **more})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if os.environ.get("PADREEL_SKIP_BROKER") == "1":
        pytest.skip("PADREEL_SKIP_BROKER=1: tests that need a real broker are left out")
    folder = tmp_path_factory.mktemp("secure")
    authority, stranger = Authority(folder / "ca"), Authority(folder / "stranger")
    good = authority.issue("good", "127.0.0.1").both
    listeners = [
        Listener("SECURE", "SASL_SSL", certificate=good),
        Listener("USERS", "SASL_PLAINTEXT"),
        Listener("MUTUAL", "SSL", certificate=good, client_ca=authority.file),
        Listener("EXPIRED", "SASL_SSL", certificate=authority.issue("expired", "127.0.0.1", expired=True).both),
        Listener("OTHER", "SSL", certificate=authority.issue("other", "kafka.example").both),
        Listener("AWAY", advertised_port=1),
    ]
    node = Broker(folder / "kafka", listeners=listeners, users={USER: PASSWORD})
    try:
        node.start()
    except LocalBrokerError as error:
        pytest.fail(f"{error}\n(PADREEL_SKIP_BROKER=1 leaves these tests out)", pytrace=False)
    try:
        yield World(node, authority, stranger)
    finally:
        node.stop()


async def use(servers: str, security: Security, topics: TopicNames) -> None:
    """Create topics, publish a record to each, and look at them as a consumer does."""
    await create_topics(servers, topics.frames, topics.pads, partitions=1, replication_factor=1, security=security)
    async with RigProducer(servers, topics.frames, topics.pads, security=security) as producer:
        await producer.send("frames", b"s@1", b"a frame")
        await producer.send("pads", b"s@1", b"a pad")
        await producer.drain()
        assert (producer.frames_sent, producer.pads_sent) == (1, 1)
    cluster = await check_topics(servers, topics.frames, topics.pads, client_id="test", security=security)
    assert cluster.partitions == 1


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_user_over_tls(world: World, topics: TopicNames, mechanism: str) -> None:
    asyncio.run(use(world.node.address("SECURE"), world.user(mechanism), topics))


def test_a_user_in_the_clear(world: World, topics: TopicNames) -> None:
    security = checked_security(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username=USER,
        sasl_password=PASSWORD,
    )
    asyncio.run(use(world.node.address("USERS"), security, topics))


def test_a_client_certificate_with_an_encrypted_key(world: World, topics: TopicNames) -> None:
    mine = world.authority.issue("rig", "rig", password=KEY_PASSWORD)
    security = world.tls(ssl_cert_file=mine.cert, ssl_key_file=mine.key, ssl_key_password=KEY_PASSWORD)
    asyncio.run(use(world.node.address("MUTUAL"), security, topics))


def test_the_hosts_name_need_not_match_if_it_is_not_checked(world: World, topics: TopicNames) -> None:
    asyncio.run(use(world.node.address("OTHER"), world.tls(ssl_check_hostname=False), topics))


def _strange(world: World) -> Security:
    foreign = world.stranger.issue("foreign", "rig")
    return world.tls(ssl_cert_file=foreign.both)


FAILURES: dict[str, tuple[str, Callable[[World], Security], list[str]]] = {
    "wrong password, SCRAM": (
        "SECURE",
        lambda world: world.user("SCRAM-SHA-512", WRONG_PASSWORD),
        ["does not accept user 'rig' with this password by SCRAM-SHA-512", "KAFKA_SASL_PASSWORD_FILE"],
    ),
    "wrong password, PLAIN": (
        "SECURE",
        lambda world: world.user("PLAIN", WRONG_PASSWORD),
        ["does not accept user 'rig' with this password by PLAIN", "KAFKA_SASL_PASSWORD"],
    ),
    "expired certificate": (
        "EXPIRED",
        lambda world: world.user(),
        ["its TLS certificate, or that of the CA that signed it, has expired; renew it"],
    ),
    "wrong CA": (
        "SECURE",
        lambda world: world.user(ssl_ca_file=world.stranger.file),
        ["its TLS certificate is not signed by a CA in ", "stranger/ca.pem", "--ssl-ca-file (KAFKA_SSL_CA_FILE)"],
    ),
    "another host's certificate": (
        "OTHER",
        lambda world: world.tls(),
        ["its TLS certificate is for kafka.example, not for 127.0.0.1"],
    ),
    "in the clear on a TLS port": (
        "SECURE",
        lambda world: PLAINTEXT,
        ["it speaks TLS on this port", "KAFKA_SECURITY_PROTOCOL) is PLAINTEXT, expected SSL or SASL_SSL"],
    ),
    "TLS on a port without": (
        "PLAINTEXT",
        lambda world: world.tls(),
        ["it speaks no TLS on this port", "KAFKA_SECURITY_PROTOCOL) is SSL, expected the port of a TLS listener"],
    ),
    "no user where one is wanted": (
        "SECURE",
        lambda world: world.tls(),
        ["it wants a user name on this port", "is SSL, expected SASL_SSL"],
    ),
    "a user where none is wanted": (
        "OTHER",
        lambda world: world.user(ssl_check_hostname=False),
        ["it takes no user names on this port", "should be SSL"],
    ),
    "no client certificate": (
        "MUTUAL",
        lambda world: world.tls(),
        ["wants a client certificate", "--ssl-cert-file (KAFKA_SSL_CERT_FILE)"],
    ),
    "a client certificate of a foreign CA": (
        "MUTUAL",
        _strange,
        ["does not accept the client certificate ", "foreign-both.pem", "--ssl-cert-file (KAFKA_SSL_CERT_FILE)"],
    ),
    "sent on to nowhere": (
        "AWAY",
        lambda world: PLAINTEXT,
        ["can be used, but sends clients on to its `advertised.listeners`", "127.0.0.1:1: connection refused"],
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_what_is_wrong_is_named_by_every_client(world: World, topics: TopicNames, failure: str) -> None:
    listener, settings, said = FAILURES[failure]
    servers, security = world.node.address(listener), settings(world)

    async def publish() -> None:
        async with RigProducer(servers, topics.frames, topics.pads, security=security):
            pass

    def create() -> Coroutine[Any, Any, object]:
        names = (servers, topics.frames, topics.pads)
        return create_topics(*names, partitions=1, replication_factor=1, security=security)

    def check() -> Coroutine[Any, Any, object]:
        return check_topics(servers, topics.frames, topics.pads, client_id="test", security=security)

    attempts: list[tuple[type[Exception], Callable[[], Coroutine[Any, Any, object]]]] = [
        (TopicsError, create),
        (PublishError, publish),
        (BrokerError, check),
    ]
    for kind, attempt in attempts:
        with pytest.raises(kind) as caught:
            asyncio.run(attempt())
        message = str(caught.value)
        assert [part for part in said if part not in message] == [], message
        assert f"broker {servers}" in message
        assert not any(secret in message for secret in SECRETS)


# ---- the commands


@pytest.fixture
def environment(world: World, tmp_path: Path) -> dict[str, str]:
    """SCRAM over TLS, all of it from the environment, the password from a file."""
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    return {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "password"),
        "KAFKA_SSL_CA_FILE": str(world.authority.file),
    }


def consumer_flags(rig: Rig, output: Path) -> list[str]:
    demo = CHECKOUT / "deploy" / "demo"
    return [
        *(*rig.flags, "--group-id", f"group-{rig.frames}", "--repo-id", "test/secure", "--task", "Run"),
        *("--game-definition", str(demo / "game-definition.yaml")),
        *("--action-mapping", str(demo / "action-mapping.yaml")),
        *("--output-root", str(output), "--fps", "30", "--size", "160x120", "--log-format", "json"),
    ]


def test_the_whole_way(world: World, topics: TopicNames, environment: dict[str, str], tmp_path: Path) -> None:
    rig = Rig(world.node.address("SECURE"), topics.frames, topics.pads)
    out, err = run_shim("topics", *rig.flags, "--partitions", "1", environment=environment)
    session = ("--seconds", "2", "--size", "160x120", "--speed", "max")
    out += run_shim("simulate", *rig.flags, *session, environment=environment)[0] + err
    # The consumer gets the same password from a variable.
    del environment["KAFKA_SASL_PASSWORD_FILE"]
    with consumer(
        [*consumer_flags(rig, tmp_path / "out"), "--metrics-port", "0"],
        environment={**environment, "KAFKA_SASL_PASSWORD": PASSWORD},
    ) as running:
        running.await_episodes(1)
        (serving,) = [line for line in running.lines if line["event"] == "serving metrics"]
        with urllib.request.urlopen(f"http://127.0.0.1:{serving['port']}/metrics") as page:
            metrics = page.read().decode()
        running.process.send_signal(signal.SIGTERM)
        assert running.finish() == 0, running.lines[-5:]
    ((episode,),) = by_session(shards(tmp_path / "out")).values()
    assert len(episode) == 60
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) > 5
    assert not any(PASSWORD.encode() in content for content in written)
    assert "padreel_episodes_total" in metrics
    assert PASSWORD not in f"{out} {running.lines} {metrics}"


def test_both_commands_end_with_1_and_one_line(
    world: World, topics: TopicNames, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(WRONG_PASSWORD)
    rig = Rig(world.node.address("SECURE"), topics.frames, topics.pads)
    out, err = run_shim("simulate", *rig.flags, "--seconds", "1", environment=environment, code=1)
    with consumer(consumer_flags(rig, tmp_path / "out"), environment=environment) as running:
        assert running.finish() == 1
    said = "\n".join(str(line["event"]) for line in running.lines)
    for output in (err, said):
        assert output.startswith("Error: ")
        assert "does not accept user 'rig' with this password by SCRAM-SHA-256" in output
        assert len(output.splitlines()) == 1
    assert not any(secret in f"{out}{err}{running.lines}" for secret in SECRETS)
    assert not (tmp_path / "out").exists()
