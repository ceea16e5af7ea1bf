"""What must never be in one group, however much the lines look alike."""

from __future__ import annotations

import random
import re
import string
from typing import List, Optional, Tuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from logmesh_ipy.clusters import Clusters
from logmesh_ipy.grouping import OTHERS, Grouper
from logmesh_ipy.levels import level_of
from logmesh_ipy.verdicts import has_verdict, is_verdict, opposed, words_in

# Lines as training jobs, storage, networks and operating systems write them.
PAIRS: List[Tuple[str, str]] = [
    # training
    ("step 1200: loss 2.31", "step 1200: loss nan"),
    ("step 1200: loss 2.31", "step 1200: loss inf"),
    ("step 1200: loss -inf", "step 1200: loss inf"),
    ("step 1200: loss nan", "step 1200: loss NaN (skipped)"),
    (
        "{'loss': 2.31, 'grad_norm': 1.2, 'epoch': 1.0}",
        "{'loss': 2.31, 'grad_norm': nan, 'epoch': 1.0}",
    ),
    ("val_acc=0.91 best=0.93", "val_acc=None best=0.93"),
    ("lr=3e-05 scale=65536.0", "lr=3e-05 scale=inf"),
    (
        "Epoch 3: val_loss improved from 0.31 to 0.29",
        "Epoch 3: val_loss worsened from 0.29 to 0.31",
    ),
    ("Epoch 3: val_loss did improve", "Epoch 3: val_loss did not improve"),
    (
        "[rank3] checkpoint saved to /ckpt/step_1200.pt",
        "[rank3] checkpoint lost at /ckpt/step_1200.pt",
    ),
    ("[rank3] loading /ckpt/step_1200.pt", "[rank3] unloading /ckpt/step_1200.pt"),
    ("checkpoint 12 checksum ok", "checkpoint 12 checksum BAD"),
    ("grad overflow: False, skipping step: False", "grad overflow: True, skipping step: False"),
    ("gradients are finite at step 7", "gradients are not finite at step 7"),
    ("found_inf=0 at step 7", "found_inf=nan at step 7"),
    ("using deterministic kernels: yes", "using deterministic kernels: no"),
    ("rank 5 joined the process group", "rank 5 left the process group"),
    ("worker 12 is alive", "worker 12 is dead"),
    ("worker_12 isAlive=true", "worker_12 isAlive=false"),
    ("NCCL INFO Channel 00 : 0[0] -> 1[1] via P2P", "NCCL WARN Channel 00 : 0[0] -> 1[1] via P2P"),
    ("node1:12:34 [0] NCCL INFO NET/IB : enabled", "node1:12:34 [0] NCCL INFO NET/IB : disabled"),
    ("AMP enabled, dtype bf16", "AMP disabled, dtype bf16"),
    ("watchdog: collective 812 completed in 31 ms", "watchdog: collective 812 timed out in 31 ms"),
    ("loss scale increased to 65536", "loss scale decreased to 65536"),
    ("memory usage is increasing: 31.2 GiB", "memory usage is decreasing: 31.2 GiB"),
    ("GPU 3 temperature 81 C is within limits", "GPU 3 temperature 81 C exceeds limits"),
    ("GPU 3 temperature above 80", "GPU 3 temperature below 80"),
    ("gpu3_ok", "gpu3_bad"),
    ("peer 10.0.0.1-up", "peer 10.0.0.1-down"),
    ("test 2024.01.02-passed", "test 2024.01.02-failed"),
    ("job 1.2.3_ok", "job 1.2.3_failed"),
    ("0.1.2nan", "0.1.2inf"),
    ("POST http://h/jobs/7/start/", "POST http://h/jobs/7/stop/"),
    ("PUT /api/enable/7 HTTP/1.1", "PUT /api/disable/7 HTTP/1.1"),
    ("see s3://bucket/failed/7.log", "see s3://bucket/passed/7.log"),
    ("ECC errors on GPU 3: corrected 12", "ECC errors on GPU 3: uncorrected 12"),
    ("dataset has 12 valid samples", "dataset has 12 invalid samples"),
    ("model.layers.0.mlp.up_proj: shape 4096", "model.layers.0.mlp.down_proj: shape 4096"),
    ("eval: 12 passed", "eval: 12 failed"),
    ("12 passed in 0.31s", "12 failed in 0.31s"),
    ("test_a.py::test_b PASSED", "test_a.py::test_b FAILED"),
    ("torch.compile: cache hit for graph 12", "torch.compile: cache miss for graph 12"),
    ("early stopping: patience 3 of 5", "early starting: patience 3 of 5"),
    ("using pretrained weights with bias", "using pretrained weights without bias"),
    ("tensor is contiguous", "tensor is non-contiguous"),
    # levels
    (
        "2026-01-01 12:00:00,123 - train - INFO - connected to 10.0.0.1",
        "2026-01-01 12:00:00,123 - train - ERROR - connected to 10.0.0.1",
    ),
    ("INFO connected", "ERROR disconnected"),
    ("[WARNING] queue 3 is long", "[ERROR] queue 3 is long"),
    ("I0423 12:00:00.123456 1 x] retry 3", "W0423 12:00:00.123456 1 x] retry 3"),
    ("E0423 12:00:00.123456 1 x] retry 3", "F0423 12:00:00.123456 1 x] retry 3"),
    ("<11>Jan 1 12:00:00 host app[12]: message 3", "<14>Jan 1 12:00:00 host app[12]: message 3"),
    (
        '{"level":30,"time":1700000000,"msg":"request 12"}',
        '{"level":50,"time":1700000000,"msg":"request 12"}',
    ),
    ('level=info msg="tick 3"', 'level=warn msg="tick 3"'),
    ("daemon.info: session 12", "daemon.err: session 12"),
    ("2026-01-01T00:00:00Z  INFO crate: tick 3", "2026-01-01T00:00:00Z DEBUG crate: tick 3"),
    # exceptions and frames
    ("ValueError: 12", "KeyError: 12"),
    ("RuntimeError: CUDA error 700", "RuntimeWarning: CUDA error 700"),
    ("java.io.IOException: block 12", "java.io.EOFException: block 12"),
    ("java.lang.NullPointerException", "java.lang.IllegalStateException"),
    ("std::bad_alloc", "std::bad_cast"),
    ('  File "x.py", line 12, in f', '  File "x.py", line 13, in f'),
    ('  File "x.py", line 12, in f', '  File "y.py", line 12, in f'),
    ('  File "x.py", line 12, in f', '  File "x.py", line 12, in g'),
    ('  File "/a/x.py", line 12, in f', '  File "/b/x.py", line 12, in f'),
    ('  File "<stdin>", line 1, in <module>', '  File "<stdin>", line 2, in <module>'),
    ('[rank3]:   File "x.py", line 12, in f', '[rank3]:   File "x.py", line 112, in f'),
    ("\tat a.b.Main.run(Main.java:12)", "\tat a.b.Main.run(Main.java:13)"),
    ("\tat a.b.Main.run(Main.java:12)", "\tat a.b.Main.walk(Main.java:12)"),
    ("\t/src/main.go:33 +0x1d", "\t/src/main.go:34 +0x1d"),
    ("             at src/main.rs:4:2", "             at src/main.rs:5:2"),
    ("             at src/main.rs:4:2", "             at src/main.rs:4:9"),
    ("thread 'main' panicked at src/main.rs:4:5:", "thread 'main' panicked at src/main.rs:40:5:"),
    ("    at f (/app/x.js:10:5)", "    at f (/app/x.js:11:5)"),
    ("#3 0x00007f1 in f () at file.c:12", "#3 0x00007f1 in f () at file.c:21"),
    ("\tfrom x.rb:12:in `f'", "\tfrom x.rb:13:in `f'"),
    ("   at A.B() in C:\\src\\x.cs:line 12", "   at A.B() in C:\\src\\x.cs:line 13"),
    ("#0 /app/x.php(12): f()", "#0 /app/x.php(13): f()"),
    ("Died at x.pl line 12.", "Died at x.pl line 13."),
    ("x.sh: line 12: foo: command failed", "x.sh: line 13: foo: command failed"),
    # storage
    ("blk_12 is available", "blk_12 is unavailable"),
    ("scrub of pool tank finished with 0 errors", "scrub of pool tank aborted with 0 errors"),
    ("disk sda3 mounted", "disk sda3 unmounted"),
    ("md0: raid array is clean", "md0: raid array is degraded"),
    ("read of 4096 bytes at 0x1f00 took 3 ms", "write of 4096 bytes at 0x1f00 took 3 ms"),
    ("replica 3 is in sync", "replica 3 is out of sync"),
    ("primary osd.12 elected", "secondary osd.12 elected"),
    ("snapshot 12 created", "snapshot 12 deleted"),
    ("object 12 found in cache", "object 12 missing in cache"),
    ("lease 12 granted to 10.0.0.1", "lease 12 revoked from 10.0.0.1"),
    ("lock 0x7f12 acquired by 31", "lock 0x7f12 released by 31"),
    ("volume vol-12 attached", "volume vol-12 detached"),
    ("quota on /home: enforced yes", "quota on /home: enforced no"),
    (
        "SMART overall-health self-assessment test result: PASSED",
        "SMART overall-health self-assessment test result: FAILED",
    ),
    ("journal replay: before 12", "journal replay: after 12"),
    ("transaction 12 committed", "transaction 12 rolled back"),
    ("fsync on fd 12: success", "fsync on fd 12: error"),
    ("dentry cache: N/A", "dentry cache: 12"),
    ("usage 81% of 100", "usage 81 of 100"),
    # networks
    ("eth0: link up", "eth0: link down"),
    ("eth0: link_up 1", "eth0: link_down 1"),
    ("eth0: linkUp", "eth0: linkDown"),
    ("bgp neighbour 10.0.0.1 Up", "bgp neighbour 10.0.0.1 Down"),
    ("connected to 10.0.0.1:8080", "disconnected from 10.0.0.1:8080"),
    ("connection to 10.0.0.1:8080 opened", "connection to 10.0.0.1:8080 closed"),
    ("host 10.0.0.1 is reachable", "host 10.0.0.1 is unreachable"),
    ("10.0.0.1 is responding", "10.0.0.1 is not responding"),
    ("peer 3 can reach 10.0.0.1", "peer 3 cannot reach 10.0.0.1"),
    ("peer 3 can reach 10.0.0.1", "peer 3 can't reach 10.0.0.1"),
    ("peer 3 isn't ready", "peer 3 is ready"),
    ("TLS certificate of 10.0.0.1 is valid", "TLS certificate of 10.0.0.1 is invalid"),
    ("accept packet from 10.0.0.1", "reject packet from 10.0.0.1"),
    ("firewall: allow 10.0.0.1 port 22", "firewall: deny 10.0.0.1 port 22"),
    ("sent 12 bytes to 10.0.0.1", "received 12 bytes from 10.0.0.1"),
    ("recv 12 bytes", "send 12 bytes"),
    ("rtt 12 ms < 20 ms", "rtt 22 ms > 20 ms"),
    ("retries=3 ok=1", "retries!=3 ok=1"),
    (
        "health check of http://10.0.0.1:80/health/ok",
        "health check of http://10.0.0.1:80/health/bad",
    ),
    ("route 10.0.0.0/8 added", "route 10.0.0.0/8 removed"),
    ("dhcp: lease 12 accepted", "dhcp: lease 12 declined"),
    ("port 3 blocking", "port 3 forwarding"),
    # operating systems
    (
        "systemd[1]: Started Session 12 of user root.",
        "systemd[1]: Stopped Session 12 of user root.",
    ),
    (
        "systemd[1]: Starting Session 12 of user root.",
        "systemd[1]: Started Session 12 of user root.",
    ),
    (
        "pam_unix(sshd:session): session opened for user root",
        "pam_unix(sshd:session): session closed for user root",
    ),
    (
        "Accepted password for root from 10.0.0.1 port 22",
        "Failed password for root from 10.0.0.1 port 22",
    ),
    ("Invalid user admin from 10.0.0.1", "Valid user admin from 10.0.0.1"),
    ("kernel: CPU3 is online", "kernel: CPU3 is offline"),
    ("kernel: cpu_online=1", "kernel: cpu_offline=1"),
    ("kernel: swap on /dev/sda2 enabled", "kernel: swap on /dev/sda2 disabled"),
    ("kernel: module nf_tables registered", "kernel: module nf_tables unregistered"),
    ("usb 1-1: device locked", "usb 1-1: device unlocked"),
    ("service[12]: state=active", "service[12]: state=inactive"),
    ("pod-12 is Ready", "pod-12 is NotReady"),
    ("pod-12 is healthy", "pod-12 is unhealthy"),
    ("feature_12: on", "feature_12: off"),
    ("process 12 is stateful", "process 12 is stateless"),
    ("job 12 begins", "job 12 ends"),
    ("battery 81% charging", "battery 81% discharging"),
    ("fan 3 speed normal", "fan 3 speed abnormal"),
    ("took 12 ms", "took 12 MB"),
    ("took 12 KB", "took 12 Kb"),
    ("temperature 40 C", "temperature 40 F"),
    ("exit status: 1", "exit status: unknown"),
    ("selinux=1 enforcing", "selinux=1 permissive"),
    ("value null at offset 12", "value 0 at offset 12"),
]

ALIKE: List[Tuple[str, str]] = [
    ("[rank 3] step 12: loss 0.31", "[rank 31] step 1300: loss 12.5"),
    ("loss 0.31 lr 3e-05", "loss -1e-7 lr 0.001"),
    ("connected to 10.0.0.1:8080", "connected to 192.168.100.20:443"),
    (
        "request 7f3c9a1e-0b2d-4e5f-8a9b-0c1d2e3f4a5b done",
        "request 00000000-1111-2222-3333-abcdefabcdef done",
    ),
    ("saved /ckpt/step_1200.pt in 3 s", "saved /data/run7/last.pt in 120 s"),
    ("page at 0x7fff12a0", "page at 0x0"),
    (
        "digest 3f786850e387550fdab836ed7e6dc881de23001b",
        "digest 89e6c98d92887913cadf06b2adb97f26cde4849b",
    ),
    ("fetched https://a.org/x/1 in 3 ms", "fetched https://b.net/y in 31 ms"),
    ("2026-01-01 12:00:00,123 tick", "2025-12-31 01:02:03,999 tick"),
    ("free 3 MB of 8 GB", "free 512 KB of 16 GB"),
    ("took 3 ms", "took 3.5 s"),
    ('[rank3]:   File "x.py", line 12, in f', '[rank12]:   File "x.py", line 12, in f'),
    ("mail to a.b@c.org bounced", "mail to x@y.net bounced"),
]


def groups_of(lines: List[str], grouper: Grouper) -> List[int]:
    ids = grouper.ids("".join(line + "\n" for line in lines).encode())
    return [grouper.find(group) for group in ids]


def test_there_are_pairs_enough() -> None:
    assert len(PAIRS) == len(set(PAIRS)) > 100


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_pair_is_two_groups(one: str, other: str) -> None:
    first, second = groups_of([one, other], Grouper())
    assert first != second
    assert OTHERS not in {first, second}


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_pair_is_two_groups_with_any_threshold_and_many_repeats(one: str, other: str) -> None:
    for threshold in (0.0, 0.5, 1.0):
        ids = groups_of([one, other] * 50, Grouper(threshold))
        assert ids[0] != ids[1]
        assert len(set(ids)) == 2


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_what_differs_in_values_is_one_group(one: str, other: str) -> None:
    first, second = groups_of([one, other], Grouper())
    assert first == second


def test_no_pair_becomes_one_when_all_lines_are_seen_together() -> None:
    dice = random.Random(7)
    lines = sorted({line for pair in PAIRS for line in pair})

    def varied(line: str) -> str:
        """The line with other numbers, where they are no level and no place in a file."""
        if level_of(line.encode()) or re.search(r"\.\w+\W{1,3}(line )?\d", line):
            return line
        return re.sub(r"(?<=\d)\d(?!\d*[^\d\s])", lambda _: str(dice.randrange(10)), line)

    grouper = Grouper()
    for _ in range(40):
        shuffled = [varied(line) for line in lines]
        dice.shuffle(shuffled)
        groups_of(shuffled, grouper)
    for one, other in PAIRS:
        first, second = groups_of([one, other], grouper)
        assert first != second, (one, other, grouper.template(first).text)


VERDICTS = [
    *("ok", "bad", "pass", "fail", "passed", "failed", "up", "down", "enabled", "disabled"),
    *("connected", "disconnected", "within", "exceeds", "true", "false", "yes", "no", "success"),
    *("error", "on", "off", "valid", "invalid", "found", "missing", "available", "unavailable"),
    *("start", "stop", "begin", "end", "opened", "closed", "open", "close", "accept", "reject"),
    *("allow", "deny", "grant", "revoke", "alive", "dead", "healthy", "unhealthy", "ready"),
    *("increasing", "decreasing", "above", "below", "before", "after", "read", "write", "send"),
    *("recv", "added", "removed", "create", "delete", "lock", "unlock", "mount", "unmount"),
    *("attach", "detach", "load", "unload", "register", "unregister", "hit", "miss", "primary"),
    *("secondary", "can", "cannot", "is", "isn", "with", "without", "nan", "inf", "none", "null"),
    *("None", "NaN", "Inf", "unknown", "not", "never"),
]


@pytest.mark.parametrize("form", ["{}", "link_{}", "link{}", "is_{}_now", "{}Count", "x.{}"])
@pytest.mark.parametrize(
    "line",
    [
        "peer {} of the mesh says hello to all",
        "node 3 of pool: state={} since 12 s",
        "the reply of user '{}' was taken at step 4",
    ],
)
def test_a_verdict_stands_apart_where_many_other_words_were_seen(line: str, form: str) -> None:
    """Names open a slot; a verdict that comes before, amid or after them never falls into it."""
    dice = random.Random(11)
    consonants = "bcdfghjklmnpqrstvwxz"
    names = ["".join(dice.choices(consonants, k=6)) + dice.choice("aeiou") for _ in range(60)]
    names = [name for name in names if not has_verdict(name.encode())]
    said = {
        word: line.format(form.format(word.title() if form == "link{}" else word))
        for word in VERDICTS
    }
    words = list(said)
    grouper = Grouper()
    first = {word: grouper.ids(said[word].encode() + b"\n")[0] for word in words[:3]}
    named = groups_of([line.format(name) for name in names], grouper)
    assert len(set(map(grouper.find, named))) == 1, "the names are no group of their own"
    first |= {word: grouper.ids(said[word].encode() + b"\n")[0] for word in words[3:]}
    groups_of([line.format(name[::-1]) for name in names], grouper)
    at_last = {word: grouper.find(group) for word, group in first.items()}
    assert grouper.find(named[0]) not in at_last.values()
    assert len(set(at_last.values())) == len(set(said.values()))


def test_where_verdicts_were_seen_few_other_words_are_no_evidence() -> None:
    names = ["anna", "berta", "clara", "dora", "emma", "frieda", "greta", "hanna", "ida", "jo"]
    lines = [f"the outcome was {word} for all of us" for word in ("ok", "bad", "dead", *names)]
    assert len(set(groups_of(lines, Grouper()))) == len(lines)
    assert len(set(groups_of(lines[3:], Grouper()))) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((b"x ok 1", 20), (b"x bad 1", 20)),
        ((b"x 1", 20), (b"x 1", 40)),
        ((b"x 1", None), (b"x 1", 20)),
    ],
)
def test_two_groups_are_never_united_against_the_rule(
    one: Tuple[bytes, Optional[int]], other: Tuple[bytes, Optional[int]]
) -> None:
    clusters = Clusters(1.0)
    first, second = clusters.add(*one, b""), clusters.add(*other, b"")
    assert first != second
    clusters._unite(first, second)
    assert clusters.find(first) != clusters.find(second)


# --- by rule ----------------------------------------------------------------------------------

WORD = st.text(string.ascii_lowercase, min_size=3, max_size=9)
NUMBER = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(lambda number: f"{number:.4g}"),
)
NO_NUMBER = st.sampled_from(
    ["nan", "inf", "-inf", "NaN", "None", "null", "N/A", "n/a", "undefined"]
)
LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


@given(st.lists(WORD, min_size=1, max_size=6), NUMBER, NO_NUMBER, st.data())
def test_a_number_and_what_is_none_are_never_one(
    words: List[str], number: str, other: str, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(words)))
    joint = data.draw(st.sampled_from([" ", "=", ": "]))

    def line(value: str) -> str:
        return " ".join(words[:at]) + joint + value + " " + " ".join(words[at:])

    first, second = groups_of([line(number), line(other)], Grouper())
    assert first != second


@given(st.lists(NUMBER, min_size=2, max_size=30), WORD)
def test_numbers_are_one_group_and_their_values_parse(numbers: List[str], word: str) -> None:
    grouper = Grouper()
    lines = [f"{word} is {number} now" for number in numbers]
    assert len(set(groups_of(lines, grouper))) == 1
    template = grouper.template(1)
    for line, number in zip(lines, numbers, strict=True):
        assert template.values(line.encode()) == (number.encode(),)


@given(st.lists(st.tuples(st.sampled_from(LEVELS), NUMBER), min_size=2, max_size=40), WORD)
def test_levels_are_never_one(said: List[Tuple[str, str]], word: str) -> None:
    grouper = Grouper()
    ids = groups_of([f"{level} {word} took {number}" for level, number in said], grouper)
    for (level, _), group in zip(said, ids, strict=True):
        found = grouper.template(group).level
        assert found == 10 * (1 + LEVELS.index(level))


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 400), st.integers(0, 9)), min_size=2),
    st.sampled_from(
        [
            '[rank{}]:   File "m{}.py", line {}, in run',
            "\tat a.B.run(M{}.java:{}) #{}",
            "goroutine {} m{}.go:{}",
            "{}: at src/m{}.rs:{}:7",
        ]
    ),
)
def test_frames_are_one_group_only_if_they_are_one_place(
    places: List[Tuple[int, int, int]], form: str
) -> None:
    rank_first = form.startswith(("[", "g", "{"))
    lines, keys = [], []
    for file, line, rank in places:
        values = (rank, file, line) if rank_first else (file, line, rank)
        lines.append(form.format(*values))
        keys.append((file, line))
    ids = groups_of(lines, Grouper())
    assert len(set(zip(keys, ids, strict=True))) == len(set(keys)) == len(set(ids))


SAID = st.sampled_from([*VERDICTS[::2], "alpha", "beta", "gamma", "n1", "7"])


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(SAID, min_size=4, max_size=7),
        min_size=2,
        max_size=120,
    )
)  # fmt: skip
def test_all_lines_of_a_group_have_the_same_verdicts(sentences: List[List[str]]) -> None:
    lines = [" ".join(words) for words in sentences]
    ids = groups_of(lines, Grouper(1.0))
    verdicts: dict[int, List[bytes]] = {}
    for line, group in zip(lines, ids, strict=True):
        found = [word for word in words_in(line.encode()) if is_verdict(word)]
        assert verdicts.setdefault(group, found) == found


@given(WORD, st.sampled_from(["un", "in", "dis", "non-", "de", "not_"]))
def test_a_word_and_its_negation_are_opposed(word: str, prefix: str) -> None:
    assume(not (prefix + word).startswith(word))
    assert opposed(word.encode(), (prefix + word).encode())
    assert opposed((prefix + word.title()).encode(), word.encode())
