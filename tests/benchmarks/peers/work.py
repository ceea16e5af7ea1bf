# What the procs do, the same in every system; it is sent to them as text.
import functools
import random


@functools.lru_cache
def lines_of(kinds, values, size):
    dice = random.Random(0)
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "theta", "kappa"]
    heads = [
        f"{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)} "
        + " ".join(dice.choice(words) for _ in range(7))
        for n in range(kinds)
    ]
    if not values:
        return [head[: size - 5].ljust(size - 1, ".") for head in heads]
    heads = [head[: size - 40].ljust(size - 40, ".") for head in heads]
    numbers = range(20_000)
    return [f"{heads[n % kinds]} step {n:09d} loss {n % 997:012d} ....." for n in numbers]


def prints(count, kinds, values, size=100):
    lines = lines_of(kinds, values, size)
    number = len(lines)
    for n in range(count):
        print(lines[n % number])  # noqa: T201 (the subject)
