"""The local broker against a real client."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local import broker as local_broker
from deploy.local.broker import Broker, LocalBrokerError, ToolsMissingError
from deploy.local.properties import Listener, ports_of, server_properties

EIGHT_MEGABYTES = 8 * 1024 * 1024

needs_broker = pytest.mark.skipif(
    os.environ.get("PADREEL_SKIP_BROKER") == "1",
    reason="PADREEL_SKIP_BROKER=1: tests that need a real broker are left out",
)


async def _create_topic(servers: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": str(2 * EIGHT_MEGABYTES)})]
        )
    finally:
        await admin.close()


async def _produce(servers: str, topic: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, enable_idempotence=True, max_request_size=2 * EIGHT_MEGABYTES
    )
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def _consume(servers: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        values: list[bytes] = []
        async with asyncio.timeout(300):
            while len(values) < count:
                values += [record.value async for record in _batch(consumer)]
        return values
    finally:
        await consumer.stop()


async def _batch(consumer: AIOKafkaConsumer):  # type: ignore[no-untyped-def]
    for records in (await consumer.getmany(timeout_ms=500)).values():
        for record in records:
            yield record


@needs_broker
@pytest.mark.broker
def test_records_survive_a_restart_on_the_same_data(tmp_path: Path) -> None:
    small, large = b"first", os.urandom(EIGHT_MEGABYTES)
    broker = Broker(log_dir=tmp_path / "kafka")
    with broker:
        servers = broker.bootstrap_servers
        asyncio.run(_create_topic(servers, "kept"))
        asyncio.run(_produce(servers, "kept", [small, large]))
        first_pid = broker.pid
    with pytest.raises(LocalBrokerError, match="not running"):
        _ = broker.pid

    again = Broker(log_dir=tmp_path / "kafka")
    with again:
        assert again.bootstrap_servers == servers
        assert again.pid != first_pid
        asyncio.run(_produce(servers, "kept", [b"last"]))
        assert asyncio.run(_consume(servers, "kept", 3)) == [small, large, b"last"]


@needs_broker
@pytest.mark.broker
def test_the_broker_ends_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from deploy.local.broker import Broker\n"
        "broker = Broker(log_dir=Path(sys.argv[1])); broker.start(); print(broker.pid, flush=True); time.sleep(600)"
    )
    checkout = Path(__file__).resolve().parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "kafka")], cwd=checkout, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        node = int(parent.stdout.readline())
        os.kill(node, 0)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 300
    while _alive(node):
        assert time.monotonic() < deadline, "the broker outlived its parent"
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    """Whether the process runs; an orphan that nobody has waited for is dead."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_missing_tools_are_named_together_with_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ToolsMissingError) as missing:
        local_broker.fetch(tmp_path / "cache")
    message = str(missing.value)
    assert "Java 17 or later" in message
    assert "Maven 3" in message
    assert "sudo apt-get install -y default-jdk-headless maven" in message


def test_a_java_that_is_too_old_is_named_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ToolsMissingError, match=r"Java 17 or later \(.*/java is Java 8\)"):
        local_broker.check_tools(tmp_path / "cache")


def test_a_folder_with_foreign_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "server.properties").write_text("listeners=SSL://0.0.0.0:9093\n")
    with pytest.raises(LocalBrokerError, match=r"server\.properties: no `listeners`"):
        Broker(log_dir=tmp_path)


def test_ports_of_the_last_time_are_used_again(tmp_path: Path) -> None:
    (tmp_path / "server.properties").write_text("listeners=PLAINTEXT://127.0.0.1:40001,CONTROLLER://127.0.0.1:40002\n")
    assert Broker(log_dir=tmp_path).bootstrap_servers == "127.0.0.1:40001"
    assert Broker(log_dir=tmp_path, port=40003).bootstrap_servers == "127.0.0.1:40003"


def test_listeners_get_ports_of_their_own_and_keep_them(tmp_path: Path) -> None:
    listeners = [Listener("PROXIED", advertised_port=40009), Listener("FIXED", port=40001)]
    first = Broker(log_dir=tmp_path, listeners=listeners)
    addresses = {name: first.address(name) for name in ("PLAINTEXT", "CONTROLLER", "PROXIED", "FIXED")}
    assert len(set(addresses.values())) == 4
    assert addresses["FIXED"] == "127.0.0.1:40001"
    assert first.bootstrap_servers == addresses["PLAINTEXT"]
    (tmp_path / "server.properties").write_text(
        "listeners=" + ",".join(f"{name}://{address}" for name, address in addresses.items()) + "\n"
    )
    again = Broker(log_dir=tmp_path, listeners=listeners)
    assert {name: again.address(name) for name in addresses} == addresses


def test_a_listener_is_advertised_where_its_proxy_listens() -> None:
    ports = {"PLAINTEXT": 1, "CONTROLLER": 2, "PROXIED": 3}
    settings = server_properties(Path("/data"), ports, [Listener("PROXIED", advertised_port=4)], {})
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2,PROXIED://127.0.0.1:3"
    assert settings["advertised.listeners"] == (
        "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2,PROXIED://127.0.0.1:4"
    )
    assert settings["listener.security.protocol.map"] == "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT"
    assert ports_of(f"a=b\nlisteners={settings['listeners']}\n") == ports
    assert not any(name.startswith("listener.name.") for name in settings)


def test_what_a_secured_listener_needs() -> None:
    listener = Listener("SECURE", "SASL_SSL", certificate=Path("/tls/both.pem"), client_ca=Path("/tls/ca.pem"))
    ports = {"PLAINTEXT": 1, "CONTROLLER": 2, "SECURE": 3}
    settings = server_properties(Path("/data"), ports, [listener], {"rig": "horse"})
    own = {
        name.removeprefix("listener.name.secure."): str(value)
        for name, value in settings.items()
        if name.startswith("listener.name.secure.")
    }
    assert own == {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": "/tls/both.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "/tls/ca.pem",
        "ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "plain.sasl.jaas.config": (
            'org.apache.kafka.common.security.plain.PlainLoginModule required user_rig="horse";'
        ),
        "scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        "scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    }
    assert settings["listener.security.protocol.map"] == "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL"


def test_a_listener_that_cannot_be_is_refused() -> None:
    for name in ("PLAINTEXT", "CONTROLLER", "lower"):
        with pytest.raises(ValueError, match=f"listener '{name}'"):
            Listener(name)
    with pytest.raises(ValueError, match="SECURE: SSL with certificate None"):
        Listener("SECURE", "SSL")


def test_the_command_runs_by_its_path(tmp_path: Path) -> None:
    script = str(Path(local_broker.__file__))
    done = subprocess.run([sys.executable, script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fetch" in done.stdout


def test_the_command_says_why_it_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PADREEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert local_broker.main(["run", "--log-dir", str(tmp_path / "kafka")]) == 1
    assert "sudo apt-get install" in capsys.readouterr().err
