"""The rows of many episodes, packed into few files: read once, renumbered, written in row groups."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from padreel.dataset import files
from padreel.errors import CorruptShardError

ROWS_PER_GROUP: Final = 50_000
TEMPORARY: Final = ".tmp"  # LeRobot globs *.parquet


def numbered(table: pa.Table, *, index: int, first_row: int, task_index: int) -> pa.Table:
    """An episode's rows under the numbers that they get: episode_index, index and task_index are replaced."""
    rows = table.num_rows
    columns = {
        "episode_index": pa.array([index] * rows, pa.int64()),
        "index": pa.array(range(first_row, first_row + rows), pa.int64()),
        "task_index": pa.array([task_index] * rows, pa.int64()),
    }
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), values)
    return table


def parse_rows(content: bytes, where: str, length: int, columns: Collection[str] | None = None) -> pa.Table:
    """The rows of a committed data file, with those of `columns` that are there, or all.

    Raises CorruptShardError where they are not as many as its commit says.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        wanted = [name for name in file.schema_arrow.names if columns is None or name in columns]
        table = file.read(columns=wanted, use_threads=False)
    except pa.ArrowException as error:
        raise CorruptShardError(f"{where}: no parquet file ({error})") from error
    if table.num_rows != length:
        raise CorruptShardError(f"{where}: {table.num_rows} rows, expected {length} by its commit")
    return table


def write_table_file(path: Path, tables: Iterable[pa.Table], rows_per_group: int = ROWS_PER_GROUP) -> None:
    """Write the tables, which have one schema, into one parquet file, durably and at once under its name.

    Only a row group is held at a time. Raises OSError.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    files.unlink(temporary)
    with files.announced("write", path):
        writer: pq.ParquetWriter | None = None
        try:
            for group in _groups(tables, rows_per_group):
                if writer is None:
                    writer = pq.ParquetWriter(temporary, group.schema, compression="snappy", use_dictionary=True)
                writer.write_table(group)
        finally:
            if writer is not None:
                writer.close()
    publish_file(temporary, path)


def publish_file(temporary: Path, path: Path) -> None:
    """Make a file that was written under a temporary name durable and give it its own. Raises OSError."""
    with files.announced("fsync", path), temporary.open("rb") as file:
        os.fsync(file.fileno())
    files.rename(temporary, path)


def _groups(tables: Iterable[pa.Table], rows_per_group: int) -> Iterator[pa.Table]:
    """Tables of exactly so many rows, but the last: how rows come does not show in the file."""
    batch: list[pa.Table] = []
    rows = 0
    for table in tables:
        at = 0
        while rows + table.num_rows - at >= rows_per_group:
            batch.append(table.slice(at, rows_per_group - rows))
            yield pa.concat_tables(batch).combine_chunks()
            at += rows_per_group - rows
            batch, rows = [], 0
        if at < table.num_rows:
            batch.append(table.slice(at))
            rows += table.num_rows - at
    if batch:
        yield pa.concat_tables(batch).combine_chunks()
