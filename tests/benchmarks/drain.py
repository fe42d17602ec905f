"""The bare drain: what reading costs at least. aiokafka's getmany, the bytes into one file, nothing else.

python -m tests.benchmarks.drain NOTES BROKER TOPICS PARTITIONS RECORDS FILE
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from padreel.kafka import source
from padreel.vitals import watch_loop
from tests.benchmarks.load import Topics
from tests.benchmarks.measure import peak_rss_mb

NAP_SECONDS = 0.01  # of the task that finds out by how much the event loop is late


async def drain(topics: Topics, records: int, file: Path) -> dict[str, object]:
    """Read until so many records came, as padreel's own source asks for them."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=topics.broker,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_bytes=source._FETCH_BYTES,
        max_partition_fetch_bytes=source._PARTITION_FETCH_BYTES,
    )
    await consumer.start()
    stalls: list[float] = []
    watching = asyncio.create_task(watch_loop(time.monotonic_ns, stalls.append))
    seen = begin_ns = begin_cpu_ns = 0
    try:
        consumer.assign(
            [TopicPartition(name, n) for name in (topics.frames, topics.pads) for n in range(topics.partitions)]
        )
        with file.open("wb") as sink:
            while seen < records:
                found = await consumer.getmany(timeout_ms=200, max_records=source._RECORDS)
                if found and not seen:
                    begin_ns, begin_cpu_ns = time.monotonic_ns(), time.process_time_ns()
                for batch in found.values():
                    sink.writelines(record.value for record in batch)
                    seen += len(batch)
    finally:
        watching.cancel()
        await consumer.stop()
    return {
        "seconds": (time.monotonic_ns() - begin_ns) / 1e9,
        "cpu_seconds": (time.process_time_ns() - begin_cpu_ns) / 1e9,
        "stalls": stalls,
        "peak_rss_mb": peak_rss_mb(),
    }


def main() -> None:
    notes, broker, name, partitions, records, file = sys.argv[1:]
    from padreel import vitals

    vitals._NAP_SECONDS = NAP_SECONDS
    found = asyncio.run(drain(Topics(broker, name, int(partitions)), int(records), Path(file)))
    Path(notes).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
