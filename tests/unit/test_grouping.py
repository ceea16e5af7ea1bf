from __future__ import annotations

import base64
import random
import string
import subprocess
import sys
import time
from typing import Callable, Dict, List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logmesh_ipy import clusters
from logmesh_ipy.grouping import OTHERS, Grouper, SlotKind, Template

LINES = st.lists(
    st.one_of(
        st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")),
        st.lists(
            st.one_of(
                st.sampled_from(
                    ["user", "root", "ok", "bad", "loss", "nan", "=", ":", "[", "]", "took", "ms"]
                ),
                st.text(string.ascii_letters + "./-_@", max_size=9),
                st.integers(0, 10**12).map(str),
                st.floats().map(str),
                st.uuids().map(str),
                st.ip_addresses().map(str),
                st.datetimes().map(str),
                st.sampled_from(["/a/b.c", 'File "x.py", line 3', "x.py:12", "\x1b[31m", "<11>"]),
            ),
            max_size=9,
        ).map(lambda words: " ".join(words).encode()),
    ),
    max_size=40,
)


def joined(lines: List[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def text_of(*lines: str) -> str:
    """The template of lines that are one group."""
    grouper = Grouper()
    ids = grouper.ids(joined([line.encode() for line in lines]))
    assert len({grouper.find(group) for group in ids}) == 1, [grouper.template(g).text for g in ids]
    return grouper.template(ids[0]).text.decode()


# --- ids --------------------------------------------------------------------------------------


@given(LINES)
def test_each_line_has_an_id_that_stays_valid(lines: List[bytes]) -> None:
    grouper = Grouper()
    data = joined(lines)
    ids = grouper.ids(data)
    assert len(ids) == len(lines)
    assert all(0 < group <= len(lines) for group in ids)
    again = grouper.ids(data)
    assert [grouper.find(group) for group in again] == [grouper.find(group) for group in ids]


@given(LINES, st.lists(st.integers(1, 9)))
def test_ids_are_small_and_consecutive_and_never_die(lines: List[bytes], cuts: List[int]) -> None:
    grouper = Grouper()
    given_ids = set()
    at = 0
    for size in [*cuts, len(lines)]:
        given_ids |= set(grouper.ids(joined(lines[at : at + size])))
        at += size
        for group in given_ids:
            found = grouper.find(group)
            assert found <= group
            assert grouper.find(found) == found
            assert grouper.template(group).id == found
        for group in grouper.ids(joined(lines[:at])):
            assert grouper.find(group) == group
    assert not given_ids or max(given_ids) <= len(lines)


@given(LINES)
def test_the_pieces_and_the_values_make_up_each_line(lines: List[bytes]) -> None:
    grouper = Grouper()
    for line, group in zip(lines, grouper.ids(joined(lines)), strict=True):
        template = grouper.template(group)
        values = template.values(line)
        assert values is not None, (line, template.pieces)
        parts = [*sum(zip(template.pieces, values, strict=False), ()), template.pieces[-1]]
        assert b"".join(parts) == line
        for kind, value in zip(template.kinds, values, strict=True):
            if kind is SlotKind.NUMBER:
                assert abs(float(value)) >= 0
        assert b"" not in template.pieces[1:-1], "slots that touch are one"


@given(LINES)
def test_the_revision_tells_of_all_that_changes(lines: List[bytes]) -> None:
    grouper = Grouper()
    known: Dict[int, Template] = {}
    revision = grouper.revision
    for line in lines:
        (group,) = grouper.ids(line + b"\n")
        if grouper.revision == revision:
            assert all(grouper.template(old) == template for old, template in known.items())
        assert grouper.revision >= revision
        revision = grouper.revision
        known[group] = grouper.template(group)
        known = {old: grouper.template(old) for old in known}


def test_ids_are_of_the_groups_as_they_are_now() -> None:
    names = "anna berta clara dora emma frieda greta hanna ida johanna".split()  # noqa: SIM905
    data = joined([f"hello user {name} from here".encode() for name in names])
    grouper = Grouper()
    first: List[int] = []
    for line in data.splitlines(keepends=True):
        revision = grouper.revision
        known = {group: (grouper.find(group), grouper.template(group)) for group in first}
        first += grouper.ids(line)
        after = {group: (grouper.find(group), grouper.template(group)) for group in known}
        assert {group for group in known if known[group] != after[group]} == (
            grouper.changes(revision) or set()
        ) & set(known)
    assert len(set(first)) > 1
    assert set(grouper.ids(data)) == {1}


NAMED = st.lists(
    st.tuples(
        st.sampled_from(["hello user", "the job of", "node", "from host"]),
        st.sampled_from("anna berta clara db1 db2.x dora emma ok failed 7 a.log b.log".split()),  # noqa: SIM905
        st.sampled_from(["came from here", "is there: ok", "= 1.5"]),
    ).map(lambda words: " ".join(words).encode()),
    max_size=80,
)


@given(NAMED | LINES, st.integers(0, 40))
def test_changes_name_each_id_with_another_answer(lines: List[bytes], at: int) -> None:
    grouper = Grouper()
    given_ids = set(grouper.ids(joined(lines[:at])))
    known = {group: (grouper.find(group), grouper.template(group)) for group in given_ids}
    revision = grouper.revision
    assert grouper.changes(revision) == set()
    grouper.ids(joined(lines[at:]))
    changed = grouper.changes(revision)
    assert changed is not None
    for group, answers in known.items():
        if (grouper.find(group), grouper.template(group)) != answers:
            assert group in changed
    assert bool(changed) == (grouper.revision > revision)


def test_changes_of_long_ago_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_MAX_CHANGES", 8)
    grouper = Grouper()
    names = "anna berta clara dora emma frieda greta hanna ida johanna".split()  # noqa: SIM905
    for count, kind in enumerate(["hello user", "at home is", "no more of", "again with"]):
        grouper.ids(joined([f"{kind} {name} from here".encode() for name in names]))
        assert (grouper.changes(0) is None) == (grouper.revision > 8), count
    assert grouper.changes(0) is None
    assert grouper.changes(grouper.revision - 8)
    assert grouper.changes(grouper.revision) == set()


@given(LINES)
def test_exact_tells_all_lines_apart_and_merges_none(lines: List[bytes]) -> None:
    grouper = Grouper(exact=True)
    ids = grouper.ids(joined(lines))
    assert len(set(ids)) == len(set(lines)) == len(set(zip(lines, ids, strict=True)))
    for line, group in zip(lines, ids, strict=True):
        assert grouper.template(group).pieces == (line,)
        assert grouper.template(group).values(line) == ()


@given(LINES)
def test_threshold_0_merges_no_words(lines: List[bytes]) -> None:
    grouper = Grouper(0.0)
    for line in lines:
        for word in ("alpha", "beta", "gamma", "delta", "omega", "sigma", "theta", "kappa", "zeta"):
            grouper.ids(line + b" and then " + word.encode() + b" was all\n")
    for line in lines:
        ids = grouper.ids(line + b" and then alpha was all\n" + line + b" and then beta was all\n")
        assert grouper.find(ids[0]) != grouper.find(ids[1])


def test_an_unfinished_last_line_counts() -> None:
    grouper = Grouper()
    assert grouper.ids(b"") == []
    assert grouper.ids(b"\n\n") == [1, 1]
    assert grouper.ids(b"a 1\nb 2") == [2, 3]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        Grouper(threshold)


# --- what varies ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "template"),
    [
        (("step 9", "step 10"), "step <#>"),
        (("loss -3e-4, 12.5%", "loss 2.0, 1%"), "loss <#>, <#>%"),
        (("v1.2.3 is out", "v10.0.12-rc1 is out"), "<*> is out"),
        (("at 0x7f00", "at 0xdeadbeef"), "at <*>"),
        (("iar 003a90fc", "iar 0000004d", "iar deadbee1"), "iar <*>"),
        (("to 10.0.0.1:8080", "to 192.168.1.1:22"), "to <*>"),
        (("to db-3.example.org:5432", "to cache.example.com:6379"), "to <*>"),
        (("in /a/b/c.txt", "in /var/log/x"), "in <*>"),
        (("from C:\\a\\b", "from D:\\x\\y z"[:11]), "from <*>"),
        (("get http://a.b/c?d=1#e", "get http://x.y:80/"), "get http<*>"),
        (("id 6ba7b810-9dad-11d1-80b4-00c04fd430c8", "id 00000000-0000-0000-0000-000000000000"),
         "id <*>"),
        (("token eyJhbGciOiJIUzI1NiIsInR5cCI6", "token Zm9vYmFyMTIzNDU2Nzg5MGFi"), "token <*>"),
        (("2026-01-01 12:00:00,123 tick", "2025-12-31 01:02:03,999 tick"), "<*> tick"),
        (("Thu Jan 01 12:00:00 UTC 2026 x", "Fri Feb 02 01:02:03 CET 2024 x"), "<*> x"),
        (("took 5 ms", "took 1.5 s", "took 2 min"), "took <#> <*>"),
        (("has 5 MB", "has 1.5 GB"), "has <#> <*>"),
        (("lifetime 00:01", "lifetime <1 sec"), "lifetime <*>"),
        (("[1, 2, 3]", "[4, 5]"), "[<#>, <*>]"),
        (("blocks b_1 b_2 b_3 b_4", "blocks b_7 b_8 b_9"), "blocks b_<#> <*>"),
        (("sda1 is 5 old", "sda2 is 6 old"), "sda<#> is <#> old"),
        (("[rank3]: hello", "[rank12]: hello"), "[rank<#>]: hello"),
        (("\x1b[32mstep 3\x1b[0m", "\x1b[32mstep 4\x1b[0m"), "\x1b[32mstep <#>\x1b[0m"),
        (('  File "x.py", line 12, in f', '  File "x.py", line 12, in f'),
         '  File "x.py", line 12, in f'),
    ],
)  # fmt: skip
def test_what_varies_by_its_form(lines: List[str], template: str) -> None:
    assert text_of(*lines) == template


def test_a_position_varies_once_enough_different_words_were_seen() -> None:
    names = "anna berta clara dora emma frieda greta hanna ida johanna".split()  # noqa: SIM905
    grouper = Grouper()
    ids = [grouper.ids(f"hello user {name} from here\n".encode())[0] for name in names]
    assert ids[:2] == [1, 2], "two words are no evidence"
    assert {grouper.find(group) for group in ids} == {1}
    template = grouper.template(ids[-1])
    assert template.text == b"hello user <*> from here"
    assert template.values(b"hello user zoe from here") == (b"zoe",)
    assert grouper.find(grouper.ids(b"hello user 7 from here\n")[0]) == 1


def test_what_a_number_is_called_is_no_value() -> None:
    names = "loss gain rate mean norm bias skew time temp load cost size".split()  # noqa: SIM905
    grouper = Grouper(1.0)
    ids = grouper.ids(joined([f"the trainer says {name}: 0.5".encode() for name in names]))
    assert len({grouper.find(group) for group in ids}) == len(names)


def test_names_with_numbers_that_stand_twice_vary_together() -> None:
    grouper = Grouper()
    hosts = ["an3", "bn4", "dn228", "tbird-sm1", "eadmin1"]
    lines = [f"{host} {host}/{host} crond: run the hourly jobs now" for host in hosts]
    ids = grouper.ids(joined([line.encode() for line in lines]))
    assert len({grouper.find(group) for group in ids}) == 1


def test_the_first_line_is_the_example_and_bounded() -> None:
    grouper = Grouper()
    grouper.ids(b"step 1\nstep 2\n" + b"x" * 100_000 + b"\n")
    assert grouper.template(1).example == b"step 1"
    assert grouper.template(2).example == b"x" * 512


def test_what_is_behind_the_look_at_a_long_line_is_told_apart() -> None:
    grouper = Grouper()
    head = b"row " + b"word " * 2000
    lines = [head + tail for tail in (b"ok 1", b"ok 2222", b"bad 1", b"loss nan")]
    ids = grouper.ids(joined(lines))
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    for line, group in zip(lines, ids, strict=True):
        values = grouper.template(group).values(line)
        assert values
        assert line.endswith(values[-1])


def test_others_has_a_template_that_all_lines_fit() -> None:
    template = Grouper().template(OTHERS)
    assert (template.id, template.level, template.example) == (OTHERS, None, b"")
    assert template.values(b"what ever 1") == (b"what ever 1",)


@pytest.mark.parametrize(
    ("line", "text", "values"),
    [
        (b"\x1b[31mload 12\x1b[m\x0f ok", b"\x1b[31mload <#>\x1b[m<*> ok", (b"12", b"\x0f")),
        (b"a\x0e b.py:3 x 1", b"a<*> b.py:3 x <#>", (b"\x0e", b"1")),
        (b"\x1b[1mx.py:12: took 3", b"\x1b[1mx.py:12: took <#>", (b"3",)),
        (b'File "a b.py", line 3, x 4', b'File "a b.py", line 3, x <#>', (b"4",)),
        (b'{"level":30, "n": 4}', b'{"level":30, "n": <#>}', (b"4",)),
        (b"1.0000000000000002e+16 is", b"<#> is", (b"1.0000000000000002e+16",)),
        (b"in 1.5a3 s", b"in <#>a<#> s", (b"1.5", b"3")),
    ],
)
def test_parts_that_are_kept(line: bytes, text: bytes, values: Tuple[bytes, ...]) -> None:
    grouper = Grouper()
    for _ in range(2):
        (group,) = grouper.ids(line + b"\n")
        assert grouper.template(group).text == text
        assert grouper.template(group).values(line) == values


def test_two_places_in_sources_are_two_kinds_and_a_long_path_is_bounded() -> None:
    grouper = Grouper()
    deep = b"/a" * 1000
    lines = [deep + b"/x.py:%d: took 5" % at for at in (1, 2)] + [b".py:3 took 5", b".py:4 took 5"]
    ids = grouper.ids(joined(lines))
    assert len(set(ids[:2])) == 2
    assert all(
        grouper.template(group).values(line) is not None
        for group, line in zip(ids, lines, strict=True)
    )


@given(st.lists(st.sampled_from([b"\x1b[3%dm", b"step %d", b"x.py:%d", b" ", b"!?", b"a%d"])))
def test_a_line_with_many_kept_parts_fits(parts: List[bytes]) -> None:
    line = b"".join(part % at if b"%" in part else part for at, part in enumerate(parts * 60))
    grouper = Grouper()
    (group,) = grouper.ids(line + b"\n")
    assert grouper.template(group).values(line) is not None


def test_a_line_that_is_long_for_its_numbers_fits() -> None:
    grouper = Grouper()
    for line in (b"a7 " * 1500 + b"ok", b"a7 " * 1500 + b"bad", b"a7" * 2100):
        (group,) = grouper.ids(line + b"\n")
        assert grouper.template(group).values(line) is not None


NUMBER, TEXT = SlotKind.NUMBER, SlotKind.TEXT


@pytest.mark.parametrize(
    ("pieces", "kinds", "line", "values"),
    [
        ((b"a ", b""), (NUMBER,), b"a -1.5e3", (b"-1.5e3",)),
        ((b"a ", b""), (NUMBER,), b"a 1.5e", None),
        ((b"a ", b""), (NUMBER,), b"a ", None),
        ((b"", b"-", b""), (NUMBER, NUMBER), b"-3-4", (b"-3", b"4")),
        ((b"a ", b" b"), (TEXT,), b"a x b y b", (b"x b y",)),
        ((b"a ", b" a"), (TEXT,), b"a a", None),
        ((b"", b" ", b" end"), (TEXT, NUMBER), b"x 3y 4 end", (b"x 3y", b"4")),
        ((b"", b" ", b" ", b""), (TEXT, NUMBER, TEXT), b"a b 1 c", (b"a b", b"1", b"c")),
        ((b"", b",", b";"), (TEXT, TEXT), b"a,b,c;", (b"a", b"b,c")),
        ((b"x", b""), (TEXT,), b"y", None),
        ((b"same",), (), b"same", ()),
        ((b"same",), (), b"same thing", None),
    ],
)
def test_values(
    pieces: Tuple[bytes, ...],
    kinds: Tuple[SlotKind, ...],
    line: bytes,
    values: Optional[Tuple[bytes, ...]],
) -> None:
    assert Template(1, pieces, kinds, None, b"").values(line) == values


def test_values_of_a_line_that_does_not_fit_take_no_longer() -> None:
    slots = 40
    template = Template(1, (b"rows ", *[b", "] * (slots - 1), b" end"), (TEXT,) * slots, None, b"")
    numbers = Template(1, (b"", *[b" "] * slots, b"!"), (TEXT, *[NUMBER] * slots), None, b"")
    started = time.process_time()
    assert template.values(b"rows " + b"a, " * 20_000) is None
    assert numbers.values(b"1 " * 20_000) is None
    assert time.process_time() - started < 2


# --- bad input --------------------------------------------------------------------------------

DICE = random.Random(3)
WORDS = ["".join(DICE.choices(string.ascii_lowercase, k=DICE.randrange(2, 9))) for _ in range(9999)]


def random_words(count: int) -> List[bytes]:
    return [" ".join(DICE.choices(WORDS, k=8)).encode() for _ in range(count)]


FLOODS: Dict[str, Callable[[int], List[bytes]]] = {
    "hex": lambda count: [b"%032x" % DICE.getrandbits(128) for _ in range(count)],
    "base64": lambda count: [base64.b64encode(DICE.randbytes(48)) for _ in range(count)],
    "binary": lambda count: [DICE.randbytes(60).replace(b"\n", b" ") for _ in range(count)],
    "words": random_words,
    "empty": lambda count: [b""] * count,
    "64 KB": lambda count: [
        base64.b64encode(DICE.randbytes(48 << 10)) for _ in range(count // 500)
    ],
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_fast_and_leaves_room_for_others(name: str) -> None:
    rounds = [joined(FLOODS[name](5000)) for _ in range(6)]
    grouper = Grouper()
    started = time.process_time()
    for data in rounds:
        ids = grouper.ids(data)
    seconds = time.process_time() - started
    assert sum(map(len, rounds)) / seconds > 1e6, "bytes per second"
    assert OTHERS in ids or len({grouper.find(group) for group in ids}) <= len(ids) // 50 + 2
    for _ in range(3):
        known = grouper.ids(b"step 1: loss 0.5\nstep 2: loss nan\n" * 1000)
    assert len(set(known) - {OTHERS}) == 2, "nothing was learned"


FILL = """
import random, resource, sys
from logmesh_ipy.grouping import OTHERS, Grouper

dice = random.Random(5)
words = ["".join(dice.choices("etaoinshrdlu", k=7)) for _ in range(9999)]

def flood(count):
    return b"".join(" ".join(dice.choices(words, k=20)).encode() + b"\\n" for _ in range(count))

grouper = Grouper()
known = b"step 1\\n" * 40_000
grouper.ids(known + flood(100))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(9):
    for _ in range(3):
        grouper.ids(known)
    ids = grouper.ids(flood(3000))
assert set(ids) == {OTHERS}, "there was room for all"
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_bounded_when_ever_more_is_learned() -> None:
    """Known lines earn the credit for it, so only the room for groups ends the learning."""
    ended = subprocess.run(
        [sys.executable, "-c", FILL], capture_output=True, text=True, check=True, timeout=100
    )
    assert int(ended.stdout) < 64 << 10, "KiB"


@pytest.mark.parametrize(
    "unit",
    [
        b" ",
        b"a",
        b"0",
        b"a0",
        b"0a",
        b"/",
        b".",
        b":",
        b"-",
        b"[",
        b"=",
        b"0.",
        b"a.",
        b"/a",
        b"\x1b[",
        b"<0>",
        b'File "',
        b"0-",
        b"e0",
        b"\xff",
    ],
)
def test_no_line_takes_long(unit: bytes) -> None:
    grouper = Grouper()
    line = (unit * 70_000)[:65_536]
    started = time.process_time()
    (group,) = grouper.ids(line + b"\n")
    grouper.template(group).values(line)
    assert time.process_time() - started < 1


UNITS = [
    b".", b"/", b":", b"\x1b", b"\x1b[", b"\x1b[0;", b"\x1b[0m", b"a.py", b".py:0", b"a.b.c.",
    b"File \"", b"File \"a\", line ", b"Cell In [", b"<0>", b'"level":', b'"level":0,', b"0", b"a",
    b"[", b"12:00:00 [", b"(", b" ", b"\x0e", b"\x0f", b"x.c(0,", b".c line ", b"://", b"a@b.",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("before", [b"", b"\x1b[31mINFO ", b"x.py:3 "])
def test_no_kept_line_takes_long(unit: bytes, before: bytes) -> None:
    """A new one, and the same with other numbers, of 4 KB each."""
    fill = (unit * 4096)[:4000]
    data = joined([before + fill + b" %d" % (10 + at) for at in range(40)])
    grouper = Grouper()
    grouper.ids(data[: data.index(b"\n") + 1])
    started = time.process_time()
    grouper.ids(data)
    assert (time.process_time() - started) / 40 < 2e-3, "seconds for a line"


def test_coloured_lines_are_fast() -> None:
    lines = [
        b"\x1b[32m2026-01-01 12:00:%02d\x1b[0m \x1b[1mINFO\x1b[0m GET https://x.org/%b/%d 0.%d"
        % (at % 60, b"abc.def/" * 6, at, at)
        for at in range(5000)
    ]
    grouper = Grouper()
    grouper.ids(joined(lines[:300]))
    data = joined(lines)
    started = time.process_time()
    grouper.ids(data)
    assert len(lines) / (time.process_time() - started) > 30_000, "lines per second"


def distinct_words(count: int) -> List[str]:
    return ["".join(DICE.choices("bcdfghjklmnpqrtvwxz", k=8)) for _ in range(count)]


def test_errors_have_groups_when_the_room_is_used_up() -> None:
    grouper = Grouper()
    known = b"hello world\n" * 64_000
    for _ in range(6):
        grouper.ids(known)
        kinds = [" ".join(distinct_words(20)) for _ in range(3000)]
        ids = grouper.ids(joined([kind.encode() for kind in kinds]))
    assert set(ids) == {OTHERS}
    grouper.ids(known)
    lines = [f"ERROR: disk {word} broke".encode() for word in distinct_words(100)]
    assert OTHERS not in grouper.ids(joined(lines))


def test_groups_that_became_one_give_back_their_room() -> None:
    """Of each kind there are some groups at first; without the refund there is no room for all."""
    grouper = Grouper()
    known = b"hello world\n" * 300
    kinds, found = 6000, set()
    for _ in range(kinds):
        start = " ".join(distinct_words(2))
        lines = [f"{start} user '{name}' logged in".encode() for name in distinct_words(8)]
        found.add(grouper.ids(known + joined(lines))[-1])
    assert OTHERS not in found
    assert len(found) == kinds


def test_in_a_flood_of_kinds_errors_still_have_groups() -> None:
    grouper = Grouper()
    dice = random.Random(11)
    flood = b"".join(
        b"".join(bytes([dice.randrange(97, 123)]) for _ in range(12)) + b"\n" for _ in range(20_000)
    )
    assert OTHERS in grouper.ids(flood)
    ids = grouper.ids(b"ERROR: out of memory\nthe quiet one\nValueError: of a kind\n")
    assert ids[1] == OTHERS
    assert OTHERS not in ids[::2]
    assert [grouper.template(id_).level for id_ in ids[::2]] == [40, 40]


def test_a_line_of_digits_takes_no_seconds_to_be_cut() -> None:
    template = Template(
        1, (b"", b"1", b"x"), (SlotKind.TEXT, SlotKind.NUMBER), level=None, example=b""
    )
    began = time.thread_time()
    assert template.values(b"1" * (64 << 10)) is None
    assert time.thread_time() - began < 1
    assert template.values(b"a112x") == (b"a", b"12")
