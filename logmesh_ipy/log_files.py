"""Lines as a file: text, JSON lines or Parquet, written piece by piece in bounded memory.

Used by ``logs``. Text is for people: what a line does to a terminal is made inert. JSON and
Parquet are for programs: they keep the line as it was written.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, BinaryIO, Iterable, Iterator, List

from .levels import level_name
from .log_summary import source_prefix
from .sanitize import to_json, to_text
from .store import ChunkHead

if TYPE_CHECKING:
    import pyarrow as pa

    from .log_columns import LineBlock

__all__ = ["json_lines", "text_lines", "write_parquet"]

_GROUP_ROWS = 1 << 20
_GROUP_BYTES = 64 << 20


def text_lines(blocks: Iterable[LineBlock]) -> Iterator[bytes]:
    """Lines as a person is shown them, a piece per block."""
    for block in blocks:
        prefixes = {id(chunk): source_prefix(chunk.info, chunk.target) for chunk in block.chunks}
        yield "".join(
            [f"{prefixes[id(chunk)]} {to_text(line)}\n" for chunk, _, line in block.lines()]
        ).encode()


def json_lines(blocks: Iterable[LineBlock]) -> Iterator[bytes]:
    """An object per line, a piece per block."""
    for block in blocks:
        yield "".join(_objects(block)).encode()


def write_parquet(file: BinaryIO, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """A Parquet file of row groups that hold at most some 64 MiB of lines."""
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        group: List[pa.RecordBatch] = []
        rows = size = 0
        for batch in batches:
            group.append(batch)
            rows += batch.num_rows
            size += batch.nbytes
            if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(group))
                group.clear()
                rows = size = 0
        if group:
            writer.write_table(pa.Table.from_batches(group))


def _objects(block: LineBlock) -> Iterator[str]:
    beginnings = {id(chunk): _beginning(chunk) for chunk in block.chunks}
    texts, levels = block.text.to_pylist(), block.levels().to_pylist()
    for (chunk, index, _), text, level in zip(block.lines(), texts, levels, strict=True):
        name = "null" if level is None else f'"{level_name(level)}"'
        shown = to_json(text)
        seq = chunk.first_line + index
        yield f'{beginnings[id(chunk)]}, "level": {name}, "text": {shown}, "seq": {seq}}}\n'


def _beginning(chunk: ChunkHead) -> str:
    """The fields that a chunk's lines have in common, up to where their own follow."""
    # A host's clock may be anywhere, a calendar begins with its year 1.
    moment = datetime.fromtimestamp(max(chunk.wall, 0.0), tz=timezone.utc)
    common = {
        "time": moment.isoformat(timespec="microseconds"),
        "host": chunk.info.hostname,
        "rank": chunk.info.rank,
        "job": chunk.info.job,
        "pid": chunk.info.pid,
        "stream": chunk.target.label,
    }
    return to_json(common)[:-1]
