"""How shim and consumer connect to Kafka: in the clear, over TLS, as a user; the same settings for both.

Standard library only: what comes out is an `ssl.SSLContext` and the keyword arguments that every aiokafka client takes.
The two secrets have no flag, because other users of a machine see the command lines of its processes.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
MECHANISMS: tuple[Mechanism, ...] = get_args(Mechanism)
_WITH_SASL: tuple[Protocol, ...] = ("SASL_PLAINTEXT", "SASL_SSL")
_WITH_TLS: tuple[Protocol, ...] = ("SSL", "SASL_SSL")

# Every setting by its name; its flag and environment variable follow from that.
HELP = {
    "security_protocol": "How to connect to Kafka: with TLS SSL or SASL_SSL, as a user SASL_SSL or SASL_PLAINTEXT.",
    "sasl_mechanism": "How to show that one is that user; needed with SASL.",
    "sasl_username": "The user's name; needed with SASL.",
    "sasl_password": "The user's password; a secret has no flag.",
    "sasl_password_file": "File that holds the password, instead of KAFKA_SASL_PASSWORD.",
    "ssl_ca_file": "Certificates (PEM) of the CAs that may sign the brokers'; the system's CAs when unset.",
    "ssl_cert_file": "Client certificate (PEM), with its chain.",
    "ssl_key_file": "The client certificate's private key (PEM); not needed where the certificate's file holds it.",
    "ssl_key_password": "Password of an encrypted private key; a secret has no flag.",
    "ssl_key_password_file": "File that holds the private key's password, instead of KAFKA_SSL_KEY_PASSWORD.",
    "ssl_check_hostname": "Whether a broker's certificate must name the host that is connected to.",
}
SECRETS = ("sasl_password", "ssl_key_password")


class SecurityError(ValueError):
    """Settings that contradict each other, or files of theirs that cannot be used; one line for each."""


def flag(name: str) -> str:
    """The flag of a setting; a secret has none."""
    assert name not in SECRETS
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"KAFKA_{name.upper()}"


def named(name: str) -> str:
    """A setting as messages name it: by its flag, if it has one, and its environment variable."""
    return variable(name) if name in SECRETS else f"{flag(name)} ({variable(name)})"


@dataclass(frozen=True, slots=True)
class Security:
    """Checked settings, as `checked_security` returns them. No secret is in the `repr`."""

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    context: ssl.SSLContext | None = field(default=None, repr=False, compare=False)
    ca_file: Path | None = None
    cert_file: Path | None = None

    @property
    def uses_sasl(self) -> bool:
        return self.protocol in _WITH_SASL

    def client_options(self) -> dict[str, Any]:
        """What every aiokafka client needs, by the names of its keyword arguments. Holds the password."""
        options: dict[str, Any] = {"security_protocol": self.protocol, "ssl_context": self.context}
        if self.uses_sasl:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return options


PLAINTEXT = Security()


def checked_security(
    *,
    security_protocol: Protocol = "PLAINTEXT",
    sasl_mechanism: Mechanism | None = None,
    sasl_username: str | None = None,
    sasl_password: str | None = None,
    sasl_password_file: Path | None = None,
    ssl_ca_file: Path | None = None,
    ssl_cert_file: Path | None = None,
    ssl_key_file: Path | None = None,
    ssl_key_password: str | None = None,
    ssl_key_password_file: Path | None = None,
    ssl_check_hostname: bool = True,
) -> Security:
    """Check the settings against each other and read their files.

    Raises SecurityError that names flag, variable and file of everything that is wrong, and never a secret.
    """
    given = {name: value for name, value in locals().items() if value not in (None, "", True)}
    if problems := _unsuited(security_protocol, given):
        raise SecurityError("\n".join(problems))
    password = context = None
    if security_protocol in _WITH_SASL:
        problems += _missing(security_protocol, given)
        try:
            password = _secret("sasl_password", sasl_password, sasl_password_file)
        except SecurityError as error:
            problems.append(str(error))
    if security_protocol in _WITH_TLS:
        try:
            context = _context(ssl_ca_file)
            context.check_hostname = ssl_check_hostname
            key_password = _secret("ssl_key_password", ssl_key_password, ssl_key_password_file)
            if ssl_cert_file is not None:
                _load_certificate(context, ssl_cert_file, ssl_key_file, key_password)
            elif ssl_key_file is not None or key_password is not None:
                name = "ssl_key_password" if ssl_key_file is None else "ssl_key_file"
                problems.append(f"{named(name)} is set without {named('ssl_cert_file')}, whose key it is about")
        except SecurityError as error:
            problems.append(str(error))
    if problems:
        raise SecurityError("\n".join(problems))
    return Security(
        protocol=security_protocol,
        mechanism=sasl_mechanism,
        username=sasl_username,
        password=password,
        context=context,
        ca_file=ssl_ca_file,
        cert_file=ssl_cert_file,
    )


def _unsuited(protocol: Protocol, given: Mapping[str, object]) -> list[str]:
    """Settings that the protocol does not use: whoever sets them believes that they protect something."""
    return [
        f"{named(name)} is set, but {named('security_protocol')} is {protocol}; "
        f"expected {' or '.join(suited)}, or the setting left out"
        for kind, suited in (("sasl_", _WITH_SASL), ("ssl_", _WITH_TLS))
        for name in given
        if name.startswith(kind) and protocol not in suited
    ]


def _missing(protocol: Protocol, given: Mapping[str, object]) -> list[str]:
    missing = [named(name) for name in ("sasl_mechanism", "sasl_username") if name not in given]
    if "sasl_password" not in given and "sasl_password_file" not in given:
        missing.append(f"{named('sasl_password')} or {named('sasl_password_file')}")
    return [f"{name} is missing; {protocol} needs it" for name in missing]


def _secret(name: str, value: str | None, path: Path | None) -> str | None:
    """A secret from its variable or its file, of which the end of the last line is no part."""
    in_file = f"{name}_file"
    if path is None:
        return value
    if value is not None:
        raise SecurityError(f"{variable(name)} and {named(in_file)} are both set; expected one of them")
    try:
        secret = _read(in_file, path).decode("utf-8")
    except UnicodeDecodeError as error:
        # Not `error` itself, which holds the bytes.
        raise SecurityError(f"{named(in_file)}: {path}: no UTF-8 text at byte {error.start}") from None
    secret = secret.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise SecurityError(f"{named(in_file)}: {path}: the file is empty")
    return secret


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SecurityError(f"{named(name)}: {path}: cannot be read: {error.strerror or error}") from error


def _context(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is not None:
        _read("ssl_ca_file", ca_file)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise SecurityError(
            f"{named('ssl_ca_file')}: {ca_file}: no certificates in PEM form ({error.reason})"
        ) from error


def _load_certificate(
    context: ssl.SSLContext, cert_file: Path, key_file: Path | None, key_password: str | None
) -> None:
    _read("ssl_cert_file", cert_file)
    if key_file is not None:
        _read("ssl_key_file", key_file)
    key_name, key_path = ("ssl_key_file", key_file) if key_file is not None else ("ssl_cert_file", cert_file)
    asked = False

    def password() -> str:
        # Without a function OpenSSL would ask whoever sits at the terminal.
        nonlocal asked
        asked = True
        if key_password is None:
            raise SecurityError(
                f"{named(key_name)}: {key_path}: the private key is encrypted; expected its password in "
                f"{variable('ssl_key_password')} or {named('ssl_key_password_file')}"
            )
        return key_password

    try:
        context.load_cert_chain(cert_file, key_file, password)
    except SecurityError:
        raise
    except (ssl.SSLError, ValueError) as error:  # ValueError: a password of more than 1,023 bytes
        reason = error.reason if isinstance(error, ssl.SSLError) else None
        if asked:
            where = f"{variable('ssl_key_password')} or {named('ssl_key_password_file')}"
            problem = f"{where}: not the password of the private key {key_path}"
        elif reason == "KEY_VALUES_MISMATCH":
            problem = f"{named(key_name)}: {key_path}: not the private key of the certificate {cert_file}"
        elif key_file is None:
            problem = (
                f"{named('ssl_cert_file')}: {cert_file}: no certificate and private key in PEM form; "
                f"where the key is in another file name that with {named('ssl_key_file')}"
            )
        else:
            problem = (
                f"{named('ssl_cert_file')}, {named('ssl_key_file')}: {cert_file}, {key_file}: no certificate and "
                f"private key in PEM form ({reason or error})"
            )
        raise SecurityError(problem) from error
