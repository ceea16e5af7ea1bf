"""Browsers hear of every change of what their lines belong to, however it comes about."""

from __future__ import annotations

import struct
from typing import Dict, List, Optional, Set, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logmesh_ipy.model import LogMessage, OutputTarget, ProcInfo
from logmesh_ipy.store import LogStore
from logmesh_ipy.template_table import TemplateTable
from logmesh_ipy.views import told as told_module
from logmesh_ipy.views.feed import MAX_MESSAGE_BYTES, Message, RowFeed
from logmesh_ipy.views.told import Telling, ToldTemplates, id_bytes

INFO = ProcInfo(proc=0, rank=0, hostname="h", pid=1)
NAMES = [
    first + second
    for first in ["qu", "wo", "xe", "zi", "yo", "va", "hu", "je", "ly", "ba"]
    for second in ["mop", "lit", "gar", "sen", "dul", "fip", "ras", "tun", "wek"]
]
LOGIN = "Failed login for user {} at the front door\n"


class Page:
    """What one browser knows of templates: what it has heard since it came."""

    def __init__(self) -> None:
        self.told: Dict[int, Telling] = {}

    def hear(self, message: Message) -> None:
        for telling in message.content["templates"]:
            self.told[telling[0]] = telling
        for _, root, *_ in message.content["templates"]:
            assert root in self.told, "part of what was never told"


class Talk:
    """A store whose lines a feed tells to all pages."""

    def __init__(self) -> None:
        self.store = LogStore()
        self.feed = RowFeed(self.store)
        self.pages = [Page()]
        self.largest = 0

    def print(self, text: str, errors: str = "strict") -> None:
        data = text.encode("utf-8", errors)
        log = LogMessage.Log(
            proc=0, epoch=0, generation=0, output_target=OutputTarget.STDOUT, seq=0, offset=0,
            size=len(data), lines=data.count(b"\n"), wall=1.0, mono=1.0, pid=1, hostname="h",
            ends_line=True, payload=data,
        )  # fmt: skip
        self.store.append(INFO, log)

    def tell(self, messages: Optional[List[Message]] = None) -> None:
        """These messages; without any the live ones, until nothing is left to tell."""
        if messages is None:
            messages = []
            while self.feed.behind:
                message = self.feed.live()
                if message is not None:
                    messages.append(message)
                assert len(messages) < 1000
        for message in messages:
            self.largest = max(self.largest, len(message.payload) + len(str(message.content)))
            for page in self.pages:
                page.hear(message)

    def come(self) -> None:
        """One more page says hello."""
        self.feed.introduce()
        self.pages.append(Page())
        self.tell(list(self.feed.history(0)))

    def check(self) -> None:
        """What each page holds is so; and it holds all that the first one's lines need."""
        table = self.store.templates
        for page in self.pages:
            for number, telling in page.told.items():
                assert telling[1] == table.find(number), (number, telling)
        used: Set[int] = set()
        for message in self.feed.page(0, self.store.rows):
            used.update(telling[0] for telling in message.content["templates"])
        assert self.pages[0].told.keys() >= used
        self.store.close()


def test_a_message_that_is_made_anew_still_tells_what_has_changed() -> None:
    talk = Talk()
    talk.print("".join(LOGIN.format(name) for name in NAMES[:4]))
    talk.tell()
    assert len({telling[1] for telling in talk.pages[0].told.values()}) == 4
    # Each byte is four as text: the message has to be made again with fewer lines.
    talk.print("".join(LOGIN.format(name) for name in NAMES[4:]) + ("\udce9" * 60 + "\n") * 3000,
               "surrogateescape")  # fmt: skip
    talk.tell()
    assert talk.largest <= MAX_MESSAGE_BYTES
    talk.check()


def test_a_page_that_comes_does_not_part_the_others_from_what_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("logmesh_ipy.views.feed.HISTORY_BYTES", 2000)
    talk = Talk()
    talk.print("".join(LOGIN.format(name) for name in NAMES[:4]))
    talk.tell()
    talk.print("plain text here\n" * 3000)
    talk.tell()
    talk.come()
    assert len(talk.pages[1].told) < len(talk.pages[0].told)
    talk.print("".join(LOGIN.format(name) for name in NAMES[4:]))
    talk.tell()
    assert len({telling[1] for telling in talk.pages[0].told.values()}) == 2
    talk.check()


def test_many_changes_are_all_told_though_no_line_follows() -> None:
    talk = Talk()
    line = "{0} greets user {1} from {0} today\n"
    for name in NAMES[:4]:
        talk.print("".join(line.format(kind, name) for kind in NAMES))
        talk.tell()
    before = len({telling[1] for telling in talk.pages[0].told.values()})
    talk.print("".join(line.format(kind, name) for name in NAMES[4:16] for kind in NAMES))
    talk.tell()
    assert len({telling[1] for telling in talk.pages[0].told.values()}) < before / 2
    assert talk.largest <= MAX_MESSAGE_BYTES
    assert not talk.feed.behind
    talk.check()


def test_what_another_reader_learns_is_told() -> None:
    talk = Talk()
    talk.print("".join(LOGIN.format(name) for name in NAMES[:4]))
    talk.tell()
    talk.store.templates.ids("".join(LOGIN.format(name) for name in NAMES[4:]).encode())
    assert talk.feed.behind
    talk.tell()
    assert talk.feed.live() is None
    talk.check()


KINDS = st.sampled_from([LOGIN, "user {} is gone\n", "{} of {}\n", "step {}: loss 0.1\n", "\n"])
STEPS = st.one_of(
    st.just("come"),
    st.just("tell"),
    st.tuples(KINDS, st.integers(0, len(NAMES) - 1), st.integers(1, 60)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25), st.sampled_from([60, 1000, 16 << 10]))
def test_each_page_knows_how_it_is_in_the_end(steps: List[object], room: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(told_module, "_CHANGES_BYTES", room)
        talk = Talk()
        for step in steps:
            if isinstance(step, tuple):
                kind, first, count = step
                names = (NAMES * 2)[first : first + count]
                talk.print("".join(kind.format(name, name) for name in names))
            elif step == "come":
                talk.come()
            else:
                talk.tell()
        talk.tell()
        talk.check()


def test_browsers_are_told_of_a_template_once_and_again_when_it_is_forgotten() -> None:
    table = TemplateTable()
    told = ToldTemplates(table)
    one, other = table.ids(b"step 1 of 2\nERROR: no disk\n")
    first = told.due({one, other, 0})
    assert {_parts(telling) for telling in first} == {
        (one, one, ("step ", " of ", ""), "##"),
        (other, other, ("ERROR: no disk",), ""),
    }
    assert {telling[0]: telling[4] for telling in first} == {one: 0, other: 40}
    assert told.due({one})  # what was made is not sent yet
    told.note(first)
    assert told.due({one, other}) == []
    assert [telling[0] for telling in told.all_of({one})] == [one]
    told.introduce()
    assert [telling[0] for telling in told.due({one})] == [one]


def test_browsers_are_told_when_templates_become_one() -> None:
    table = TemplateTable()
    told = ToldTemplates(table)
    names = ["anna", "bert", "carl", "dora", "emil", "frieda", "gustav", "hanna", "ida", "jakob"]
    seen: Set[int] = set()
    tellings: Dict[int, Telling] = {}
    for turn in range(200):
        name = names[turn % 10] + names[turn // 10 % 10]
        ids = table.ids(f"Failed login for user {name} at the front door\n".encode())
        seen.update(ids)
        some = told.due({table.find(number) for number in ids})
        told.note_live(some)
        tellings.update((telling[0], telling) for telling in some)
    assert len(seen) > 1, "nothing was learned while it was told"
    roots = {table.find(number) for number in seen}
    assert len(roots) < len(seen)
    for number in seen & tellings.keys():
        at = number
        while tellings[at][1] != at:
            at = tellings[at][1]
        assert at == table.find(number)
        template = table.templates({at})[at]
        assert tellings[at][2] == [piece.decode() for piece in template.pieces]


def _parts(telling: Telling) -> Tuple[int, int, Tuple[str, ...], str]:
    return telling[0], telling[1], tuple(telling[2]), telling[3]


def test_ids_travel_as_little_endian_numbers() -> None:
    assert id_bytes([1, 2, 1 << 31]) == struct.pack("<3I", 1, 2, 1 << 31)


def test_a_long_template_is_told_by_its_beginning() -> None:
    table = TemplateTable()
    words = ["".join(chr(97 + (n // 26**k) % 26) for k in range(4)) for n in range(900)]
    wide = " ".join(f"{word} {n}" for n, word in enumerate(words[:300]))
    long = "x" * 3000 + " 1"
    ids = table.ids(f"{wide}\n{long}\nstep 1\n".encode())
    for telling in ToldTemplates(table).all_of(set(ids)):
        number, into, pieces, kinds, _ = telling
        assert number == into
        assert len(pieces) == len(kinds) + 1
        assert sum(map(len, pieces)) <= 2600
        assert all(len(piece) <= 501 for piece in pieces)
    assert ToldTemplates(table).all_of({ids[2]})[0][2:4] == (["step ", ""], "#")
