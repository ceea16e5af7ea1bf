"""``python -m tests.benchmarks``: measure, print a table, write JSON.

python -m tests.benchmarks                        all of them
python -m tests.benchmarks throughput start_up    some of them
python -m tests.benchmarks --quick --json out.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import List, Optional

from . import grouping_cases, mesh_cases, notebook_cases, scale_cases, search_cases
from .harness import BENCHMARKS, Settings, document, machine, run
from .peers import cases
from .peers.runner import PEERS, SETUP, missing

MODULES = (grouping_cases, mesh_cases, notebook_cases, scale_cases, search_cases, cases)
"""Importing them registers their benchmarks."""


def main(argv: Optional[List[str]] = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure logmesh_ipy.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="benchmarks:\n"
        + "\n".join(f"  {name:<14} {test.__doc__}" for name, test in BENCHMARKS.items()),
    )
    parser.add_argument("benchmarks", nargs="*", metavar="NAME", help="which ones (default all)")
    parser.add_argument("--repeat", type=int, default=5, help="repeats of long measurements")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works")
    parser.add_argument("--json", metavar="FILE", help="write everything there; - is stdout")
    parser.add_argument(
        "--memory-lines", type=int, default=2_000_000, metavar="N", help="lines of `memory`"
    )
    parser.add_argument(
        "--peer", dest="peers", action="append", choices=list(PEERS), metavar="NAME",
        help=f"whom `peers` compares with (default all that are installed): {', '.join(PEERS)}",
    )  # fmt: skip
    args = parser.parse_args(argv)
    unknown = [name for name in args.benchmarks if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(BENCHMARKS)}")
    if args.repeat < 1 or args.memory_lines < 1000:
        parser.error("--repeat must be 1 or more, --memory-lines 1,000 or more")
    absent = missing()
    for name in args.peers or ():
        if name in absent:
            parser.error(f"{name} is not installed: {SETUP} {name}")
    settings = Settings(
        quick=args.quick, repeat=args.repeat, memory_lines=args.memory_lines,
        peers=tuple(args.peers or (name for name in PEERS if name not in absent)),
    )  # fmt: skip
    out = sys.stderr if args.json == "-" else sys.stdout

    def told(text: str) -> None:
        out.write(f"{text}\n")
        out.flush()

    facts = machine()
    told(
        f"{facts['cores']} cores ({facts['cpu']}), {facts['system']} {facts['kernel']}, "
        f"Python {facts['python']}"
    )
    figures = run(args.benchmarks or list(BENCHMARKS), settings, told)
    written = json.dumps(document(figures, settings), indent=1)
    if args.json == "-":
        sys.stdout.write(written + "\n")
    elif args.json:
        Path(args.json).write_text(written + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
