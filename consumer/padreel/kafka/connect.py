"""The first connection: before any client is made it is seen whether there can be one."""

from __future__ import annotations

from padreel.errors import BrokerError
from padreel_schemas.reach import UnreachableError, check_reachable
from padreel_schemas.security import Security


async def check_connection(bootstrap_servers: str, security: Security, *, client_id: str) -> None:
    """See that there is a broker that can be used. Raises BrokerError that says why not."""
    try:
        await check_reachable(bootstrap_servers, security, client_id=client_id)
    except UnreachableError as error:
        raise BrokerError(f"no Kafka broker can be used: {error}") from error
