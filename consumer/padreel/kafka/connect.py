"""The first connection: before any client is made it is seen whether there can be one."""

from __future__ import annotations

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from padreel.errors import BrokerError
from padreel_schemas.reach import Address, UnreachableError, check_reachable
from padreel_schemas.security import Security


async def check_connection(bootstrap_servers: str, security: Security, *, client_id: str) -> None:
    """See that there is a broker that can be used. Raises BrokerError that says why not."""

    async def ask(host: str, port: int) -> list[Address]:
        connection = await create_conn(host, port, client_id=client_id, **security.client_options())
        try:
            metadata = await connection.send(MetadataRequest([]))
            return [(broker[1], broker[2]) for broker in metadata.brokers]
        finally:
            await connection.close()

    servers = [(host, port) for host, port, _ in collect_hosts(bootstrap_servers, randomize=False)]
    try:
        await check_reachable(servers, security, ask)
    except UnreachableError as error:
        raise BrokerError(f"no Kafka broker can be used: {error}") from error
