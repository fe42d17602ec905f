"""Whether a Kafka broker can be used with the settings at hand and, if not, why, in words.

A Kafka client only says that it has no connection. Here one connection is made beforehand; where that fails the cause
is looked for: in the error, then by asking the port what it speaks.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Sequence

from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.protocol.metadata import MetadataRequest

from padreel_schemas.security import Security, named

Address = tuple[str, int]

_PROBE_SECONDS = 10.0
_GOODBYE_SECONDS = 5.0
# Kafka's error codes.
_UNSUPPORTED_SASL_MECHANISM, _ILLEGAL_SASL_STATE, _SASL_AUTHENTICATION_FAILED = 33, 34, 58
# OpenSSL's X509_V_ERR_*.
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_CA = {2, 7, 18, 19, 20, 21}
_OTHER_HOST = {62, 64}


class UnreachableError(Exception):
    """No broker can be used; says why of each that was tried, what to check and which setting it is."""


async def check_reachable(bootstrap_servers: str, security: Security, *, client_id: str) -> None:
    """See that one of the servers can be used, and one of the brokers that it sends its clients to.

    Raises UnreachableError.
    """
    failures: list[str] = []
    for host, port, _ in collect_hosts(bootstrap_servers, randomize=False):
        advertised, failure = await _asked(host, port, security, client_id)
        if failure is None:
            await _check_advertised((host, port), advertised, security, client_id)
            return
        failures.append(f"broker {host}:{port}: {failure}")
    raise UnreachableError("; ".join(failures))


async def _check_advertised(server: Address, advertised: Sequence[Address], security: Security, client_id: str) -> None:
    failures: list[str] = []
    for host, port in advertised:
        if (host, port) == server:
            return
        _, failure = await _asked(host, port, security, client_id)
        if failure is None:
            return
        failures.append(f"{host}:{port}: {failure}")
    if failures:
        raise UnreachableError(
            f"broker {server[0]}:{server[1]} can be used, but sends clients on to its `advertised.listeners`, which "
            f"cannot: {'; '.join(failures)}"
        )


async def _asked(host: str, port: int, security: Security, client_id: str) -> tuple[Sequence[Address], str | None]:
    """The brokers that a server names, or why it cannot be asked."""
    connection = AIOKafkaConnection(host, port, client_id=client_id, **security.client_options())
    try:
        await connection.connect()
        metadata = await connection.send(MetadataRequest([]))
    except OSError as error:  # there never was a connection that would have to be closed
        return (), await _reason(error, host, port, security)
    # RuntimeError is what aiokafka's errors are; the others are a SCRAM exchange that a server spoils.
    except (RuntimeError, ValueError, LookupError) as error:
        await _close(connection)
        return (), await _reason(error, host, port, security)
    await _close(connection)
    return [(broker[1], broker[2]) for broker in metadata.brokers], None


async def _close(connection: AIOKafkaConnection) -> None:
    """Close it: by TLS that takes until the broker has said goodbye, which some never do."""
    if (closed := connection.close()) is not None:
        await asyncio.wait([closed], timeout=_GOODBYE_SECONDS)


async def _reason(error: Exception, host: str, port: int, security: Security) -> str:
    cause = _cause(error)
    match cause:
        case ssl.SSLCertVerificationError():
            return await _untrusted(cause, host, port, security)
        case ssl.SSLError() if "ALERT" in (cause.reason or ""):
            return _refused_handshake(cause, security)
        case ConnectionRefusedError():
            return f"connection refused; check that it runs, and {named('bootstrap_servers')}"
        case socket.gaierror():
            return f"no such host ({cause.strerror}); check {named('bootstrap_servers')}"
        case TimeoutError():
            return f"no answer; check {named('bootstrap_servers')}, and whether a firewall is between"
        case ssl.SSLError() | ConnectionError() | EOFError():
            return await _hung_up(cause, host, port, security)
        case OSError():
            return f"{cause.strerror or cause}; check {named('bootstrap_servers')}"
        case ValueError() | LookupError():
            return (
                f"it does not prove that it knows the password of user {security.username!r} ({cause}); check whether "
                "this is the broker that it should be"
            )
    return await _refused(cause, host, port, security)


def _cause(error: BaseException) -> BaseException:
    """What ended a connection: the operating system's or TLS's error where there is one behind the client's."""
    found = error
    while (behind := found.__cause__) is not None:
        found = behind
        if isinstance(found, (OSError, EOFError)):
            break
    return found


async def _untrusted(error: ssl.SSLCertVerificationError, host: str, port: int, security: Security) -> str:
    """Why a broker's certificate does not pass."""
    if error.verify_code == _EXPIRED:
        return "its TLS certificate, or that of the CA that signed it, has expired; renew it at the broker"
    if error.verify_code == _NOT_YET_VALID:
        return "its TLS certificate is not valid yet; check its dates and the clock of this machine"
    if error.verify_code in _OTHER_HOST:
        names = await _names(host, port, security)
        found = f"is for {', '.join(names)}, not for {host}" if names else f"is not for {host}"
        return (
            f"its TLS certificate {found}; connect by a name that it has ({named('bootstrap_servers')} and the "
            "broker's `advertised.listeners`), or have one made for this name"
        )
    if error.verify_code in _UNKNOWN_CA:
        known = f"in {security.ca_file}" if security.ca_file else "that this system trusts"
        return (
            f"its TLS certificate is not signed by a CA {known} ({error.verify_message}); check {named('ssl_ca_file')}"
        )
    return f"its TLS certificate cannot be trusted: {error.verify_message}"


async def _names(host: str, port: int, security: Security) -> list[str]:
    """The names in a broker's certificate that passes but for its name."""
    context = ssl.create_default_context(cafile=security.ca_file)
    context.check_hostname = False
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError:
        return []
    try:
        return [name for _, name in writer.get_extra_info("peercert").get("subjectAltName", ())]
    finally:
        writer.transport.abort()


def _refused_handshake(error: ssl.SSLError, security: Security) -> str:
    """What a broker does not like about a client that trusts it."""
    reason = (error.reason or "").partition("ALERT_")[2].replace("_", " ").lower()
    if "protocol version" in reason:
        return "it speaks no TLS version that this client does; expected 1.2 or later at the broker"
    return _unknown_client(reason, security)


def _unknown_client(found: str, security: Security) -> str:
    if security.cert_file is None:
        return (
            f"it ended the TLS handshake ({found}), as one does that wants a client certificate; "
            f"check {named('ssl_cert_file')}"
        )
    return (
        f"it does not accept the client certificate {security.cert_file} ({found}); check {named('ssl_cert_file')}: "
        "its dates, and whether the broker trusts the CA that signed it"
    )


async def _refused(error: BaseException, host: str, port: int, security: Security) -> str:
    """What a Kafka error of the connection's beginning says."""
    code = getattr(error, "errno", None)
    said = error.args[0] if error.args and isinstance(error.args[0], str) else type(error).__name__
    if code == _SASL_AUTHENTICATION_FAILED:
        return (
            f"it does not accept user {security.username!r} with this password by {security.mechanism} ({said}); check "
            f"{named('sasl_username')}, {named('sasl_password')} or {named('sasl_password_file')}, and "
            f"{named('sasl_mechanism')}"
        )
    if code == _UNSUPPORTED_SASL_MECHANISM:
        return f"it does not take SASL mechanism {security.mechanism} here; check {named('sasl_mechanism')}"
    if code == _ILLEGAL_SASL_STATE:
        return (
            f"it takes no user names on this port; check {named('bootstrap_servers')}, or whether "
            f"{named('security_protocol')} should be {security.protocol.removeprefix('SASL_')}"
        )
    if code is None:
        return await _hung_up(error, host, port, security)
    return f"{said}; check {named('bootstrap_servers')}"


async def _hung_up(error: BaseException, host: str, port: int, security: Security) -> str:
    """Why a broker ends a connection without a word: most often it speaks something else on that port."""
    kinds = ("SASL_",) if security.uses_sasl else ("", "SASL_")
    wrong = f"{named('security_protocol')} is {security.protocol}"
    in_clear = await _answers(host, port, None)
    if security.context is not None:
        if in_clear:
            suited = " or ".join(f"{kind}PLAINTEXT" for kind in kinds)
            return f"it speaks no TLS on this port; {wrong}, expected the port of a TLS listener, or {suited}"
        same = await _answers(host, port, security.context)
        if not same and await _speaks_tls(host, port):
            return _unknown_client("without an alert", security)
    else:
        if not in_clear and await _speaks_tls(host, port):
            return f"it speaks TLS on this port; {wrong}, expected {' or '.join(f'{kind}SSL' for kind in kinds)}"
        same = in_clear
    if same and not security.uses_sasl:
        return f"it wants a user name on this port; {wrong}, expected SASL_{security.protocol}"
    said = getattr(error, "reason", None) or str(error) or type(error).__name__
    return f"no connection ({said}); check {named('bootstrap_servers')} and {named('security_protocol')}"


async def _answers(host: str, port: int, context: ssl.SSLContext | None) -> bool:
    """Whether Kafka's first question, ApiVersions, is answered; it is before a client says who it is."""
    request = struct.pack(">hhih", 18, 0, 1, -1)  # api key, version, correlation id, no client id
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                writer.write(struct.pack(">i", len(request)) + request)
                header = await reader.readexactly(8)  # size, correlation id
            finally:
                writer.transport.abort()
    except (OSError, EOFError):
        return False
    return header[4:] == struct.pack(">i", 1)


async def _speaks_tls(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=ssl.create_default_context())
    except ssl.SSLError as error:
        # A certificate that is not trusted here is TLS all the same, and so is an alert.
        return isinstance(error, ssl.SSLCertVerificationError) or "ALERT" in (error.reason or "")
    except OSError:
        return False
    writer.transport.abort()
    return True
