"""Logs: what a mesh has printed, as data. ``mesh.logs`` gives all of it, ``where`` less.

    mesh.logs.where(ranks="0-3", level="ERROR").to_pandas()

A selection holds no lines. It is read from the store when it is asked for, block by block and in
bounded memory, up to the last row that is there at that moment; so the same selection gives more
when more has arrived. Cut by a slice it is one of fixed rows. All methods are for any thread, and
work after the mesh was stopped.
"""

from __future__ import annotations

import importlib
import operator
import os
import warnings
from io import BytesIO
from itertools import chain
from typing import (
    TYPE_CHECKING,
    Any,
    BinaryIO,
    Callable,
    Dict,
    FrozenSet,
    Generator,
    Iterator,
    List,
    Optional,
    Protocol,
    Sequence,
    SupportsIndex,
    Tuple,
    TypeVar,
    Union,
    overload,
)

from .errors import MeshStateError, OptionError
from .levels import parse_level
from .log_files import json_lines, text_lines, write_parquet
from .log_filter import (
    LogFilter,
    Moment,
    TextPattern,
    check_cells,
    check_names,
    check_ranks,
    check_stream,
    check_text,
    check_time,
)
from .log_summary import LogSummary
from .log_workers import LogTask, in_order
from .store import ChunkRun, Row

if TYPE_CHECKING:
    import pyarrow as pa

    from .log_columns import LineBlock

__all__ = ["LineStore", "Logs"]

_READ_ROWS = 1 << 17
_FIRST_STEP_BACK = 256

R = TypeVar("R")
Sources = Callable[[], Optional[FrozenSet[int]]]


class LineStore(Protocol):
    """What lines are read from: the store of a mesh, or what is left of one."""

    @property
    def rows(self) -> int:
        """The row behind the last."""

    @property
    def first_row(self) -> int:
        """The oldest row that is kept; those before went when the store was closed."""

    def read_run(self, first_row: int, max_rows: int) -> ChunkRun:
        """Chunks side by side from that with the row on, or from the next that is not lost."""


class Logs:
    r"""A selection of lines, in the order of their arrival.

    As a table it has these columns:

    ========== =================== ==========================================================
    row        uint64              number among all lines of the store, all meshes' together
    time       timestamp[us, UTC]  the host's clock when the line was read there
    cell       int32               the notebook's cell that it belongs to
    host       dictionary<string>
    rank       int32
    job        dictionary<string>  empty for what a proc itself printed
    pid        int64
    stream     dictionary<string>  ``stdout`` or ``stderr``
    level      int8, may be null   10 DEBUG to 50 CRITICAL; null: the line states none
    seq        uint64              number within its stream of its proc or job
    text       large_string        as written, escape sequences too; ``\xNN`` for a byte that
                                   is not UTF-8
    truncated  bool                whether the store keeps a part of the line only
    true_bytes uint64              the line's length in bytes before that
    ========== =================== ==========================================================

    ``sources`` gives the ids of the sources meant (None: all that the store knows), ``procs`` is
    the number of ranks.
    """

    __slots__ = ("_filter", "_procs", "_sources", "_store")

    def __init__(
        self, store: LineStore, sources: Sources, procs: int, wanted: Optional[LogFilter] = None
    ) -> None:
        self._store = store
        self._sources = sources
        self._procs = procs
        self._filter = wanted or LogFilter()

    # --- narrower -----------------------------------------------------------------------------

    def where(
        self,
        *,
        ranks: Union[str, int, Sequence[int], None] = None,
        level: Union[str, int, None] = None,
        cell: Union[int, Sequence[int], None] = None,
        stream: Optional[str] = None,
        since: Optional[Moment] = None,
        until: Optional[Moment] = None,
        matches: Optional[str] = None,
        contains: Optional[str] = None,
        job: Union[str, Sequence[str], None] = None,
        host: Union[str, Sequence[str], None] = None,
    ) -> Logs:
        """Those lines that meet all of it, besides what this selection asks for already.

        ``ranks``: ``"0-3,8"``, a rank, or several. ``level``: that one or more; a line that
        states none counts as INFO, so it is left out above INFO. ``since`` (included) and
        ``until`` (not included): a datetime, local time if it names no zone, or seconds as of
        ``time.time()``. ``contains``: literal text. ``matches``: a regular expression found
        anywhere in the text, in RE2's dialect: like Python's without look-around and
        backreferences; ``(?i)`` ignores case. ``job``: names as ``job.name``; ``""`` is what the
        procs themselves printed. Raises OptionError for a value that is not allowed.
        """
        patterns: List[TextPattern] = []
        if contains is not None:
            patterns.append(TextPattern(check_text("contains", contains), regex=False))
        if matches is not None:
            from .log_columns import check_regex

            check_regex(check_text("matches", matches))
            patterns.append(TextPattern(matches, regex=True))
        more = LogFilter(patterns=tuple(patterns), level=0 if level is None else parse_level(level))
        checked: Dict[str, Any] = {}
        if ranks is not None:
            checked["ranks"] = check_ranks(ranks, self._procs)
        if cell is not None:
            checked["cells"] = check_cells(cell)
        if stream is not None:
            checked["streams"] = check_stream(stream)
        if since is not None:
            checked["since"] = check_time("since", since)
        if until is not None:
            checked["until"] = check_time("until", until)
        if job is not None:
            checked["jobs"] = check_names("job", job)
        if host is not None:
            checked["hosts"] = check_names("host", host)
        return self._but(more.both(LogFilter(**checked)))

    @overload
    def __getitem__(self, index: SupportsIndex) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Logs: ...

    def __getitem__(self, index: Union[SupportsIndex, slice]) -> Union[Row, Logs]:
        """One line, or a selection of some: ``logs[-1]``, ``logs[-100:]``.

        A slice is of the lines that are there now and stays of these. Counting from the end reads
        no more than it has to; counting from the start reads all lines before.
        """
        first, end = self._span()
        if not isinstance(index, slice):
            number = operator.index(index)
            row = self._row_at(number, first, end)
            if row is None:
                raise IndexError(f"line {number} of a selection that has fewer")
            return next(iter(self._but(LogFilter(first_row=row, end_row=row + 1))))
        if index.step not in (None, 1):
            raise OptionError(f"the step of a slice is {index.step!r}; only 1 is possible")
        start = first if index.start is None else self._bound(index.start, first, end)
        stop = end if index.stop is None else self._bound(index.stop, first, end)
        return self._but(LogFilter(first_row=start, end_row=stop))

    # --- lines --------------------------------------------------------------------------------

    def __len__(self) -> int:
        return sum(self._counts())

    def __bool__(self) -> bool:
        return any(self._counts())

    def __iter__(self) -> Iterator[Row]:
        for block in self._blocks(*self._span()):
            yield from block.rows()

    def count(self) -> LogTask[int]:
        """``len`` that nothing waits for: ``await logs.count()``, or ``.get(timeout)``."""
        return LogTask(self._counts(), sum)

    def collect(self) -> LogTask[pa.Table]:
        """``to_arrow`` that nothing waits for: ``table = await logs.collect()``."""
        return LogTask(self._some_batches(), _table)

    # --- tables -------------------------------------------------------------------------------

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """The table in pieces, each of at most some ten megabytes and never empty."""
        for batches in self._some_batches():
            yield from batches

    def to_reader(self) -> pa.RecordBatchReader:
        """The table as a stream of Arrow that is read as it is made."""
        from .log_columns import reader_of

        return reader_of(self.to_batches())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Arrow's PyCapsule protocol, as in ``polars.DataFrame(logs)``: others take it as it is."""
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def to_arrow(self) -> pa.Table:
        """A ``pyarrow.Table``."""
        from .log_columns import table_of

        return table_of(self.to_batches())

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``."""
        _need("pandas", "to_pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """A ``polars.DataFrame``."""
        return _need("polars", "to_polars").from_arrow(self.to_arrow())

    # --- files --------------------------------------------------------------------------------

    def to_text(self) -> str:
        """All lines as ``write`` writes them as text."""
        out = BytesIO()
        self.write(out, "text")
        return out.getvalue().decode()

    def to_parquet(self, path: Union[str, os.PathLike[str]]) -> None:
        """A Parquet file at ``path``."""
        with open(path, "wb") as file:
            self.write(file, "parquet")

    def write(self, file: BinaryIO, format: str = "text") -> None:  # noqa: A002 (as polars has it)
        r"""Write all lines to a binary file, in bounded memory; it is left open.

        ``text``: lines as a person is shown them, ``[3 err] text``, without colours and with
        escapes shown inert; of a line that rewrites itself, what stands at last. ``jsonl``: an
        object per line with ``time``, ``host``, ``rank``, ``job``, ``pid``, ``stream``,
        ``level`` (a name or null), ``text``, ``seq``. ``parquet``: the table. The latter two
        keep each line as it was written.
        """
        if format == "parquet":
            from .log_columns import SCHEMA

            write_parquet(file, SCHEMA, self.to_batches())
        elif format == "jsonl":
            file.writelines(json_lines(self._blocks(*self._span())))
        elif format == "text":
            file.writelines(text_lines(self._blocks(*self._span())))
        else:
            raise OptionError(
                f"format is {format!r:.80}; allowed are 'text' (default), 'jsonl' and 'parquet'"
            )

    # --- shown --------------------------------------------------------------------------------

    def __repr__(self) -> str:
        words = self._filter.words()
        return f"<Logs of {self._procs} ranks{': ' if words else ''}{'; '.join(words)}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Dict[str, str]:
        """A summary and the last lines, as text and as HTML, at a bounded cost."""
        try:
            summary = self._summary()
        except MeshStateError as error:
            return {"text/plain": f"{self!r}: {error}"}
        return {"text/plain": summary.text(), "text/html": summary.html()}

    def _summary(self) -> LogSummary:
        """Goes back from the end until it has the last lines and has looked at enough."""
        first, end = self._span()
        every_row = self._filter.all_rows and self._sources() is None
        summary = LogSummary(
            self._filter.words(), rows=end - first, lines=end - first if every_row else None
        )
        for rows, blocks in self._backwards(first, end):
            summary.add(rows, blocks)
            if summary.enough:
                break
        return summary

    # --- reading ------------------------------------------------------------------------------

    def _but(self, more: LogFilter) -> Logs:
        return Logs(self._store, self._sources, self._procs, self._filter.both(more))

    def _span(self) -> Tuple[int, int]:
        """(first row, row behind the last) that can be meant now."""
        end = self._store.rows
        if self._filter.end_row is not None:
            end = min(end, self._filter.end_row)
        return min(self._filter.first_row, end), end

    def _runs(self, first: int, end: int) -> Iterator[ChunkRun]:
        """All chunks that hold rows from ``first`` to below ``end``, some megabytes at a time."""
        while first < end:
            run = self._store.read_run(first, min(_READ_ROWS, end - first))
            found = min(run.heads[0].first_row, end) if run.heads else end
            if found > first:
                if first < self._store.first_row:
                    raise MeshStateError("the lines are gone: their store was closed")
                warnings.warn(f"lines are lost: rows {first:,} to {found - 1:,}", stacklevel=2)
            first = run.heads[-1].first_row + run.heads[-1].count if run.heads else end
            if found < end:
                yield run

    def _found(
        self, first: int, end: int, make: Callable[[LineBlock], R]
    ) -> Generator[List[R], None, None]:
        """``make`` of the lines meant from row ``first`` to below ``end``, some or none at a time.

        ``make`` is called in any thread.
        """
        from .log_search import LogSearch

        search = LogSearch(self._filter, self._sources())

        def work(run: ChunkRun) -> List[R]:
            return [make(block) for block in search.blocks(run, first, end)]

        return in_order(work, self._runs(first, end))

    def _blocks(self, first: int, end: int) -> Iterator[LineBlock]:
        """The lines meant from row ``first`` to below ``end``, some at a time."""
        for blocks in self._found(first, end, lambda block: block):
            yield from blocks

    def _counts(self) -> Generator[int, None, None]:
        """How many lines are meant, in parts."""
        first, end = self._span()
        if self._filter.by_line:
            for counts in self._found(first, end, len):
                yield sum(counts)
            return
        for spans in self._spans(first, end):
            yield sum(stop - start for start, stop in spans)

    def _spans(self, first: int, end: int) -> Iterator[List[Tuple[int, int]]]:
        """The rows meant, from and to below, where no line has to be looked at; some at a time."""
        sources = self._sources()
        for run in self._runs(first, end):
            yield [
                (max(first, head.first_row), min(end, head.first_row + head.count))
                for head in run.heads
                if (sources is None or head.info.proc in sources) and self._filter.takes(head)
            ]

    def _some_batches(self) -> Generator[List[pa.RecordBatch], None, None]:
        """The table in pieces, some or none at a time."""
        from .log_columns import LineBlock, Names

        hosts, jobs = Names(), Names()
        for blocks in self._found(*self._span(), LineBlock.with_levels):
            yield [block.batch(hosts, jobs) for block in blocks]

    def _backwards(self, first: int, end: int) -> Iterator[Tuple[int, Iterator[LineBlock]]]:
        """(how many rows, the lines meant in them): of the last, of those before, and so on."""
        step = _FIRST_STEP_BACK
        while first < end:
            start = max(first, end - step)
            yield end - start, self._blocks(start, end)
            end = start
            step = min(step * 2, _READ_ROWS)

    def _row_at(self, number: int, first: int, end: int) -> Optional[int]:
        """The row of the selection's line ``number`` (negative: from the end); None: not there."""
        if number >= 0 and self._filter.by_line:
            for block in self._blocks(first, end):
                if number < len(block):
                    return int(block.row[number].as_py())
                number -= len(block)
            return None
        if number >= 0:
            for start, stop in chain.from_iterable(self._spans(first, end)):
                if number < stop - start:
                    return start + number
                number -= stop - start
            return None
        for _, blocks in self._backwards(first, end):
            for row in reversed([block.row for block in blocks]):
                if -number <= len(row):
                    return int(row[len(row) + number].as_py())
                number += len(row)
        return None

    def _bound(self, number: SupportsIndex, first: int, end: int) -> int:
        """The row that a slice's bound means: beyond the lines that are there, the nearest end."""
        wanted = operator.index(number)
        row = self._row_at(wanted, first, end)
        if row is not None:
            return row
        return first if wanted < 0 else end


def _table(batches: Iterator[List[pa.RecordBatch]]) -> pa.Table:
    from .log_columns import table_of

    return table_of(chain.from_iterable(batches))


def _need(package: str, what: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ModuleNotFoundError(
            f"{what} needs {package}: pip install {package}", name=package
        ) from None
