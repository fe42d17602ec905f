"""Why a broker cannot be used, against ports that behave as Kafka's do; by the clients of shim and consumer alike."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from padreel.errors import BrokerError
from padreel.kafka.connect import check_connection
from padreel_schemas.reach import UnreachableError, check_reachable
from padreel_schemas.security import PLAINTEXT, Security, checked_security
from tests.certificates import Authority, server_context
from tests.fake_kafka_port import Port, listening

PASSWORD = "correct-horse"
Settings = dict[str, Any]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]  # bound, not listening: connecting is refused


def reason(port: Port, security: Security, servers: str = "127.0.0.1:{}") -> str | None:
    """What both say of the servers, `{}` being the port's number; None if one can be used."""

    async def meet(check: Callable[..., Any]) -> str | None:
        async with listening(port) as number:
            try:
                await check(servers.format(number), security, client_id="test")
            except (BrokerError, UnreachableError) as caught:
                return str(caught).removeprefix("no Kafka broker can be used: ").replace(f":{number}", ":PORT")
        return None

    by_consumer, by_shim = asyncio.run(meet(check_connection)), asyncio.run(meet(check_reachable))
    assert by_consumer == by_shim
    assert PASSWORD not in (by_shim or "")
    assert "\n" not in (by_shim or "")
    return by_shim


def sasl(protocol: str = "SASL_PLAINTEXT", mechanism: str = "PLAIN", password: str = PASSWORD, **more: Any) -> Security:
    settings: Settings = {"security_protocol": protocol, "sasl_mechanism": mechanism, "sasl_username": "rig", **more}
    return checked_security(**settings, sasl_password=password)


def tls(ca: Path | None, **more: Any) -> Security:
    return checked_security(security_protocol="SSL", ssl_ca_file=ca, **more)


def test_what_fits_can_be_used(authority: Authority, tmp_path: Path) -> None:
    context = server_context(authority.issue("good", "127.0.0.1"))
    assert reason(Port(), PLAINTEXT) is None
    assert reason(Port(context), tls(authority.file)) is None
    assert reason(Port(password=PASSWORD), sasl()) is None
    assert reason(Port(context, PASSWORD), sasl("SASL_SSL", ssl_ca_file=authority.file)) is None


def test_an_expired_certificate(authority: Authority) -> None:
    port = Port(server_context(authority.issue("expired", "127.0.0.1", expired=True)))
    assert reason(port, tls(authority.file)) == (
        "broker 127.0.0.1:PORT: its TLS certificate, or that of the CA that signed it, has expired; renew it at the "
        "broker"
    )


def test_a_wrong_ca(authority: Authority, stranger: Authority) -> None:
    port = Port(server_context(authority.issue("good", "127.0.0.1")))
    said = reason(port, tls(stranger.file))
    assert said is not None
    assert f"its TLS certificate is not signed by a CA in {stranger.file}" in said
    assert "check --ssl-ca-file (KAFKA_SSL_CA_FILE)" in said
    assert "is not signed by a CA that this system trusts" in str(reason(port, tls(None)))


def test_a_certificate_for_another_host(authority: Authority) -> None:
    port = Port(server_context(authority.issue("other", "kafka.example", "10.0.0.1")))
    said = reason(port, tls(authority.file))
    assert said is not None
    assert "its TLS certificate is for kafka.example, 10.0.0.1, not for 127.0.0.1" in said
    assert "KAFKA_BOOTSTRAP_SERVERS" in said
    assert reason(port, tls(authority.file, ssl_check_hostname=False)) is None
    # Off is the host's name alone: the CA still counts.
    expired = Port(server_context(authority.issue("expired", "kafka.example", expired=True)))
    assert "has expired" in str(reason(expired, tls(authority.file, ssl_check_hostname=False)))
    assert "is not signed by a CA" in str(reason(port, tls(None, ssl_check_hostname=False)))


def test_clear_text_where_there_is_tls_and_the_reverse(authority: Authority) -> None:
    secure = Port(server_context(authority.issue("good", "127.0.0.1")))
    assert reason(secure, PLAINTEXT) == (
        "broker 127.0.0.1:PORT: it speaks TLS on this port; --security-protocol (KAFKA_SECURITY_PROTOCOL) is "
        "PLAINTEXT, expected SSL or SASL_SSL"
    )
    assert "is SASL_PLAINTEXT, expected SASL_SSL" in str(reason(secure, sasl()))
    assert reason(Port(), tls(authority.file)) == (
        "broker 127.0.0.1:PORT: it speaks no TLS on this port; --security-protocol (KAFKA_SECURITY_PROTOCOL) is SSL, "
        "expected the port of a TLS listener, or PLAINTEXT or SASL_PLAINTEXT"
    )
    users = Port(password=PASSWORD)
    assert "is SASL_SSL, expected the port of a TLS listener, or SASL_PLAINTEXT" in str(
        reason(users, sasl("SASL_SSL", ssl_ca_file=authority.file))
    )


def test_a_user_name_where_none_is_taken_and_the_reverse(authority: Authority) -> None:
    context = server_context(authority.issue("good", "127.0.0.1"))
    assert reason(Port(password=PASSWORD), PLAINTEXT) == (
        "broker 127.0.0.1:PORT: it wants a user name on this port; --security-protocol (KAFKA_SECURITY_PROTOCOL) is "
        "PLAINTEXT, expected SASL_PLAINTEXT"
    )
    assert "is SSL, expected SASL_SSL" in str(reason(Port(context, PASSWORD), tls(authority.file)))
    said = str(reason(Port(), sasl()))
    assert "takes no user names on this port" in said
    assert "should be PLAINTEXT" in said


def test_a_wrong_password_and_a_wrong_mechanism() -> None:
    port = Port(password=PASSWORD)
    assert reason(port, sasl(password="wrong-horse")) == (
        "broker 127.0.0.1:PORT: it does not accept user 'rig' with this password by PLAIN (Invalid username or "
        "password); check --sasl-username (KAFKA_SASL_USERNAME), KAFKA_SASL_PASSWORD or --sasl-password-file "
        "(KAFKA_SASL_PASSWORD_FILE), and --sasl-mechanism (KAFKA_SASL_MECHANISM)"
    )
    said = str(reason(port, sasl(mechanism="SCRAM-SHA-256")))
    assert "does not take SASL mechanism SCRAM-SHA-256 here; check --sasl-mechanism" in said


def test_a_broker_that_only_pretends_to_know_the_password() -> None:
    port = Port(password="unknown", mechanism="SCRAM-SHA-256", impostor=True)
    said = str(reason(port, sasl(mechanism="SCRAM-SHA-256")))
    assert "does not prove that it knows the password of user 'rig'" in said


def test_client_certificates(authority: Authority, stranger: Authority) -> None:
    port = Port(server_context(authority.issue("good", "127.0.0.1"), client_ca=authority.file))
    mine, foreign = authority.issue("rig", "rig"), stranger.issue("rig", "rig")
    assert reason(port, tls(authority.file, ssl_cert_file=mine.cert, ssl_key_file=mine.key)) is None
    said = str(reason(port, tls(authority.file)))
    # asyncio's server sends no alert; Kafka does.
    assert "wants a client certificate; check --ssl-cert-file (KAFKA_SSL_CERT_FILE)" in said
    said = str(reason(port, tls(authority.file, ssl_cert_file=foreign.both)))
    assert f"does not accept the client certificate {foreign.both} (without an alert)" in said


def test_every_server_is_tried(closed_port: int) -> None:
    assert reason(Port(), PLAINTEXT, f"127.0.0.1:{closed_port},127.0.0.1:{{}}") is None
    said = str(reason(Port(password=PASSWORD), PLAINTEXT, f"127.0.0.1:{closed_port},127.0.0.1:{{}}"))
    refused, _, unknown = said.partition("; ")
    assert (
        refused
        == (
            f"broker 127.0.0.1:{closed_port}: connection refused; check that it runs, and --bootstrap-servers "
            "(KAFKA_BOOTSTRAP_SERVERS)"
        ).partition("; ")[0]
    )
    assert "broker 127.0.0.1:PORT: it wants a user name" in unknown


def test_a_broker_that_sends_its_clients_to_nowhere(closed_port: int) -> None:
    said = str(reason(Port(advertised=("127.0.0.1", closed_port)), PLAINTEXT))
    assert "`advertised.listeners`" in said
    assert f"127.0.0.1:{closed_port}: connection refused" in said
