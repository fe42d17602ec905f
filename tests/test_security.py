"""The settings of the connection to Kafka: what fits together, and where their secrets must not turn up."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner

import padreel_shim.cli as shim
from padreel.__main__ import cli, consume
from padreel.errors import SettingsError
from padreel.logs import configure_logging
from padreel.options import configuration_table, load, options_of
from padreel.settings import BrokerSettings, ConsumerSettings
from padreel_schemas.security import HELP, SECRETS, Security, SecurityError, checked_security, variable
from padreel_shim.options import Target
from padreel_shim.producer import RigProducer
from padreel_shim.simulate_cli import simulate
from padreel_shim.topics import Topic
from tests.certificates import Authority, Issued
from tests.test_settings import GIVEN

PASSWORD, KEY_PASSWORD = "correct-horse", "battery-staple"
SCRAM = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "rig"}
PASSWORD_FILE = "--sasl-password-file (KAFKA_SASL_PASSWORD_FILE)"
CERT_FILE = "--ssl-cert-file (KAFKA_SSL_CERT_FILE)"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue("rig", "rig", password=KEY_PASSWORD)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in options_of(ConsumerSettings):
        monkeypatch.delenv(option.env, raising=False)


def refusal(**settings: Any) -> list[str]:
    """The lines of the error that settings cause."""
    with pytest.raises(SecurityError) as caught:
        checked_security(**settings)
    return str(caught.value).splitlines()


def test_in_the_clear_unless_told() -> None:
    security = checked_security()
    assert security.client_options() == {"security_protocol": "PLAINTEXT", "ssl_context": None}


def test_a_user_in_the_clear() -> None:
    assert checked_security(**SCRAM, sasl_password=PASSWORD).client_options() == {  # type: ignore[arg-type]
        "security_protocol": "SASL_PLAINTEXT",
        "ssl_context": None,
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "rig",
        "sasl_plain_password": PASSWORD,
    }


def test_tls_trusts_the_given_ca_alone_and_checks_the_host(authority: Authority) -> None:
    context = checked_security(security_protocol="SSL", ssl_ca_file=authority.file).context
    assert context is not None
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1
    context = checked_security(security_protocol="SSL", ssl_ca_file=authority.file, ssl_check_hostname=False).context
    assert context is not None
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert not context.check_hostname


def in_vain(name: str, protocol: str, suited: str) -> str:
    """What is said of a setting that the protocol does not use."""
    where = f"{name} is set, but --security-protocol (KAFKA_SECURITY_PROTOCOL) is {protocol}"
    return f"{where}; expected {suited}, or the setting left out"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"security_protocol": "SASL_SSL"},
            [
                "--sasl-mechanism (KAFKA_SASL_MECHANISM) is missing; SASL_SSL needs it",
                "--sasl-username (KAFKA_SASL_USERNAME) is missing; SASL_SSL needs it",
                f"KAFKA_SASL_PASSWORD or {PASSWORD_FILE} is missing; SASL_SSL needs it",
            ],
        ),
        (
            {**SCRAM, "sasl_username": "", "sasl_password": PASSWORD},
            ["--sasl-username (KAFKA_SASL_USERNAME) is missing; SASL_PLAINTEXT needs it"],
        ),
        (
            {**SCRAM, "sasl_password": PASSWORD, "sasl_password_file": Path("p")},
            [f"KAFKA_SASL_PASSWORD and {PASSWORD_FILE} are both set; expected one of them"],
        ),
        (
            {**SCRAM, "sasl_password_file": Path("/nowhere/p")},
            [f"{PASSWORD_FILE}: /nowhere/p: cannot be read: No such file or directory"],
        ),
        (
            {"sasl_password": PASSWORD, "ssl_ca_file": Path("ca")},
            [
                in_vain("KAFKA_SASL_PASSWORD", "PLAINTEXT", "SASL_PLAINTEXT or SASL_SSL"),
                in_vain("--ssl-ca-file (KAFKA_SSL_CA_FILE)", "PLAINTEXT", "SSL or SASL_SSL"),
            ],
        ),
        (
            {**SCRAM, "sasl_password": PASSWORD, "ssl_check_hostname": False},
            [in_vain("--ssl-check-hostname (KAFKA_SSL_CHECK_HOSTNAME)", "SASL_PLAINTEXT", "SSL or SASL_SSL")],
        ),
        (
            {"security_protocol": "SSL", "ssl_ca_file": Path("/nowhere/ca")},
            ["--ssl-ca-file (KAFKA_SSL_CA_FILE): /nowhere/ca: cannot be read: No such file or directory"],
        ),
        (
            {"security_protocol": "SSL", "ssl_key_file": Path("key")},
            [f"--ssl-key-file (KAFKA_SSL_KEY_FILE) is set without {CERT_FILE}, whose key it is about"],
        ),
        (
            {"security_protocol": "SSL", "ssl_key_password": KEY_PASSWORD},
            [f"KAFKA_SSL_KEY_PASSWORD is set without {CERT_FILE}, whose key it is about"],
        ),
    ],
)
def test_what_does_not_fit_together_is_named(settings: dict[str, Any], said: list[str]) -> None:
    assert refusal(**settings) == said
    given = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    with pytest.raises(SettingsError) as caught:
        load(ConsumerSettings, {**GIVEN, **given})
    assert str(caught.value).splitlines() == said


def test_files_that_are_not_what_they_should_be(authority: Authority, issued: Issued, tmp_path: Path) -> None:
    other = authority.issue("other", "other")
    noise = tmp_path / "noise"
    noise.write_text(f"{PASSWORD}\n")

    def said(**settings: Any) -> str:
        (line,) = refusal(security_protocol="SSL", **settings)
        assert PASSWORD not in line
        assert KEY_PASSWORD not in line
        return line

    assert f"(KAFKA_SSL_CA_FILE): {noise}: no certificates in PEM form" in said(ssl_ca_file=noise)
    without_key = said(ssl_cert_file=other.cert)
    assert f"--ssl-cert-file (KAFKA_SSL_CERT_FILE): {other.cert}: no certificate and private key" in without_key
    assert "--ssl-key-file (KAFKA_SSL_KEY_FILE)" in without_key
    assert f"(KAFKA_SSL_KEY_FILE): {other.key}: not the private key of the certificate {issued.cert}" in said(
        ssl_cert_file=issued.cert, ssl_key_file=other.key
    )
    assert f"{other.cert}, {noise}: no certificate and private key" in said(
        ssl_cert_file=other.cert, ssl_key_file=noise
    )
    encrypted = {"ssl_cert_file": issued.cert, "ssl_key_file": issued.key}
    assert "the private key is encrypted; expected its password in KAFKA_SSL_KEY_PASSWORD" in said(**encrypted)
    for wrong in (PASSWORD, PASSWORD * 100):  # OpenSSL takes 1,023 bytes
        assert f"not the password of the private key {issued.key}" in said(**encrypted, ssl_key_password=wrong)
    noise.write_bytes(b"\xff\xfe")
    assert "no UTF-8 text at byte 0" in said(**encrypted, ssl_key_password_file=noise)
    noise.write_bytes(b"\n")
    assert "the file is empty" in said(**encrypted, ssl_key_password_file=noise)


def test_secrets_come_from_files(issued: Issued, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY_PASSWORD}\r\n")
    for content, password in (("with space ", "with space "), ("a\n", "a"), ("a\n\n", "a\n")):
        (tmp_path / "sasl").write_text(content)
        security = checked_security(
            security_protocol="SASL_SSL",
            sasl_mechanism="PLAIN",
            sasl_username="rig",
            sasl_password_file=tmp_path / "sasl",
            ssl_ca_file=authority.file,
            ssl_cert_file=issued.both,
            ssl_key_password_file=tmp_path / "key",
        )
        assert security.password == password


# ---- both commands


def test_both_commands_have_the_same_settings() -> None:
    consumer = {option.env: option.flag for option in options_of(BrokerSettings) if option.name != "log_format"}
    for command in (shim.publish, shim.topics, simulate):
        rig = {
            parameter.envvar: parameter.opts[0]
            for parameter in command.params
            if parameter.envvar in consumer and parameter.envvar is not None
        }
        assert rig == {env: flag for env, flag in consumer.items() if flag is not None}
    assert {env for env, flag in consumer.items() if flag is None} == {variable(name) for name in SECRETS}
    assert set(HELP) | {"bootstrap_servers", "log_format"} == set(BrokerSettings.model_fields)


@pytest.fixture
def taken_by_consumer(monkeypatch: pytest.MonkeyPatch) -> list[ConsumerSettings]:
    import padreel.app

    found: list[ConsumerSettings] = []
    monkeypatch.setattr(padreel.app, "run_consumer", found.append)
    monkeypatch.setattr("padreel.logs.configure_logging", lambda log_format: None)
    return found


@pytest.fixture
def taken_by_shim(monkeypatch: pytest.MonkeyPatch) -> list[Security]:
    found: list[Security] = []

    async def create(*names: str, security: Security, **counts: int) -> list[Topic]:
        found.append(security)
        return []

    monkeypatch.setattr(shim, "create_topics", create)
    return found


def test_the_password_from_the_environment_reaches_the_clients(
    taken_by_consumer: list[ConsumerSettings], taken_by_shim: list[Security], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {variable(name): value for name, value in SCRAM.items()}
    for name, value in {**environment, "KAFKA_SASL_PASSWORD": f" {PASSWORD} "}.items():
        monkeypatch.setenv(name, value)
    flags = [word for name, value in GIVEN.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    result = CliRunner().invoke(cli, ["consume", *flags])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(shim.cli, ["topics", "--bootstrap-servers", "127.0.0.1:1"])
    assert result.exit_code == 0, result.output
    for security in (taken_by_consumer[0].security, taken_by_shim[0]):
        assert security.client_options()["sasl_plain_password"] == f" {PASSWORD} "
        assert security.mechanism == "SCRAM-SHA-512"


def test_flags_of_the_shim(taken_by_shim: list[Security], authority: Authority) -> None:
    flags = ["--security-protocol", "SSL", "--ssl-ca-file", str(authority.file), "--ssl-check-hostname", "false"]
    result = CliRunner().invoke(shim.cli, ["topics", "--bootstrap-servers", "127.0.0.1:1", *flags])
    assert result.exit_code == 0, result.output
    (security,) = taken_by_shim
    assert security.context is not None
    assert not security.context.check_hostname


def test_the_shim_names_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", PASSWORD)
    result = CliRunner().invoke(shim.cli, ["topics", "--bootstrap-servers", "127.0.0.1:1"])
    assert result.exit_code == 2
    assert in_vain("KAFKA_SASL_PASSWORD", "PLAINTEXT", "SASL_PLAINTEXT or SASL_SSL") in result.output
    assert PASSWORD not in result.output


# ---- where secrets must not be


@pytest.fixture
def settings() -> ConsumerSettings:
    return load(ConsumerSettings, {**GIVEN, **SCRAM, "sasl_password": PASSWORD})


def test_no_secret_is_shown(settings: ConsumerSettings) -> None:
    assert settings.security.password == PASSWORD
    target = Target("127.0.0.1:1", "f", "p", settings.security)
    for shown in (
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        repr(settings.model_dump()),
        json.dumps(settings.recorded(), default=str),
        repr(settings.security),
        repr(target),
        configuration_table(ConsumerSettings),
    ):
        assert PASSWORD not in shown
    assert not settings.recorded().keys() & {*HELP, "bootstrap_servers"}


def test_a_producer_does_not_show_the_password(settings: ConsumerSettings) -> None:
    async def made() -> str:
        producer = RigProducer("127.0.0.1:1", security=settings.security)
        return repr(producer) + repr(vars(producer))

    assert PASSWORD not in asyncio.run(made())


@pytest.mark.parametrize(
    "wrong",
    [
        {"sasl_password": [PASSWORD]},
        {"sasl_password": PASSWORD, "unknown": "x"},
        {"sasl_password": PASSWORD, "sasl_mechanism": "PLAIN"},
        {**SCRAM, "sasl_password": PASSWORD, "fps": "x"},
        {**SCRAM, "sasl_password": PASSWORD, "sasl_password_file": "x"},
    ],
)
def test_no_secret_is_in_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(ConsumerSettings, {**GIVEN, **wrong})
    assert PASSWORD not in str(caught.value)
    with pytest.raises(ValueError, match="validation error") as raw:
        ConsumerSettings.model_validate({**GIVEN, **wrong})
    assert PASSWORD not in str(raw.value)


def test_no_secret_has_a_flag_or_is_in_a_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", PASSWORD)
    monkeypatch.setenv("KAFKA_SSL_KEY_PASSWORD", KEY_PASSWORD)
    for root, command in ((cli, consume), (shim.cli, shim.publish), (shim.cli, shim.topics), (shim.cli, simulate)):
        assert command.name is not None
        result = CliRunner().invoke(root, [command.name, "--help"])
        assert result.exit_code == 0
        text = "".join(result.output.split())
        assert PASSWORD not in text
        assert KEY_PASSWORD not in text
        for name in HELP:
            assert variable(name) in text
        for name in SECRETS:
            flag = "--" + name.replace("_", "-")
            assert all(flag not in parameter.opts for parameter in command.params)
            result = CliRunner().invoke(root, [command.name, f"{flag}={PASSWORD}"])
            assert result.exit_code == 2
            assert PASSWORD not in result.output


@pytest.fixture
def log_lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers, root.level, logging.getLogger("aiokafka").level
    try:
        yield io.StringIO()
    finally:
        root.handlers, root.level = before[0], before[1]
        logging.getLogger("aiokafka").setLevel(before[2])
        structlog.reset_defaults()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_logged_traceback_shows_no_variables(log_lines: io.StringIO, log_format: Any) -> None:
    """aiokafka passes the password as an argument from function to function."""
    configure_logging(log_format, log_lines)

    def connect(sasl_plain_password: str) -> None:
        raise OSError("no")

    try:
        connect(PASSWORD)
    except OSError:
        logging.getLogger("aiokafka.conn").exception("failed")
        structlog.get_logger("padreel").exception("failed")
    assert log_lines.getvalue().count("connect(PASSWORD)") == 2
    assert PASSWORD not in log_lines.getvalue()


def test_what_a_client_sends_is_not_logged(log_lines: io.StringIO) -> None:
    """At DEBUG aiokafka logs its requests; one of them is the password."""
    configure_logging("json", log_lines)
    assert not logging.getLogger("aiokafka.conn").isEnabledFor(logging.DEBUG)
