"""Drawn messages: the reader gives what the general decoder gives, bit for bit, or leaves them to it."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.channels import CHANNELS
from models.meter_reader import MeterReader

from .meter_messages import REGISTER, SIMPLE, T0, check, read, taught

PLAIN = st.one_of(
    st.integers(-(10**6), 10**6).map(str), st.decimals(-1000, 10**7, places=3).map(str), st.just("null")
)
NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.decimals(-1000, 10**7, places=3).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-1e4, 1e4, width=32).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(
        ["null"] * 9 + ["-0", "-0.0", "1e22", "1e23", "9007199254740993", "0e999", "1e-400", "true", "01"]
    ),
)
MOSTLY_PLAIN = st.integers(0, 20).flatmap(lambda k: NUMBERS if k == 0 else PLAIN)
BLANKS = st.sampled_from(["", "", "", " ", "\n", "\t ", "\r\n"])
STRINGS = st.one_of(
    st.sampled_from(["S1", "", "station-22", "S1", "station-23", "x y", "é", "a\\u0062", "x\ny"]),
    st.text("abc/ ", max_size=6),
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Draw a message close to the schema, spelled in many ways."""

    def gap() -> str:
        return draw(BLANKS)

    def series() -> str:
        channels = draw(
            st.lists(st.sampled_from([*[c.name for c in CHANNELS[:9]], REGISTER, "Odd"]), max_size=4)
        )
        width = len(channels) + draw(st.sampled_from([0] * 12 + [1, -1]))
        rows = [
            ",".join(
                [
                    draw(st.integers(0, 10**5).map(str) if draw(st.integers(0, 20)) else NUMBERS),
                    *(gap() + draw(MOSTLY_PLAIN) for _ in range(width)),
                ]
            )
            for _ in range(draw(st.integers(0, 3)))
        ]
        members = {
            "st": f'"{draw(STRINGS)}"',
            "evse": draw(st.sampled_from(["1", "1", "2", "3", "1", "2", "0"])),
            "conn": draw(st.sampled_from(["1", "null", "0"])),
            "tx": f'"{draw(STRINGS)}"',
            "t0": str(draw(st.sampled_from([T0, T0, T0, 7, 4102444799999, 10**15]))),
            "ch": "[" + ",".join(f'{gap()}"{c}"' for c in channels) + "]",
            "rows": "[" + ",".join(f"{gap()}[{row}]" for row in rows) + gap() + "]",
        }
        names = draw(
            st.sampled_from(
                [list(members), ["evse", "t0", "ch", "rows"], ["evse", "ch", "t0", "rows", "evse"]]
            )
        )
        if draw(st.integers(0, 9)) == 0:
            names = draw(st.permutations(names))
        return "{" + ",".join(f'{gap()}"{n}"{gap()}:{gap()}{members[n]}' for n in names) + "}"

    top = {
        "v": draw(st.sampled_from(["1"] * 20 + ["2", "1.0"])),
        "boot": str(draw(st.integers(0, 2**53) | st.sampled_from([-1, 2**54]))),
        "seq": str(draw(st.integers(0, 100))),
        "series": "[" + ",".join(series() for _ in range(draw(st.integers(0, 3)))) + "]",
        "more": '{"a":[1,{"b":null}]}',
    }
    names = draw(
        st.sampled_from([["v", "boot", "seq", "series"], ["series"], ["seq", "series", "v"], list(top)])
    )
    return gap() + "{" + ",".join(f'"{n}":{gap()}{top[n]}' for n in names) + gap() + "}" + gap()


SHARED = MeterReader()


@settings(max_examples=250, deadline=None)
@given(st.lists(texts(), min_size=1, max_size=2))
@example([SIMPLE[0].decode()])
def test_equal_to_the_general_decoder(messages: list[str]) -> None:
    check([m.encode() for m in messages], SHARED)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(SIMPLE),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255), st.sampled_from("sid")), max_size=3),
    st.integers(0, 500),
)
def test_equal_on_damaged_messages(message: bytes, edits: list[tuple[int, int, str]], cut: int) -> None:
    damaged = bytearray(message)
    for at, value, how in edits:
        where = at % (len(damaged) + 1)
        if how == "i":
            damaged.insert(where, value)
        elif where < len(damaged):
            if how == "s":
                damaged[where] = value
            else:
                del damaged[where]
    check([SIMPLE[0], bytes(damaged), bytes(damaged)[: max(0, len(damaged) - cut % 40)], SIMPLE[2]], SHARED)


LONG = st.from_regex(r"-?[1-9][0-9]{0,2}\.[0-9]{13,19}", fullmatch=True)


@settings(max_examples=300, deadline=None)
@given(st.lists(NUMBERS | LONG, min_size=1, max_size=8))
@example(["337.83147282794969"])  # one division of its 17 digits would be rounded twice
@example(["3.36620644402302749"])
@example(["9007199.254740993", "90071992.54740992"])
@example(["12.345678901234567890"])  # its digits overflow 64 bits
@example(["1844674407370955.1617e-15", "18446744073709551616.5e-19"])
def test_numbers_are_correctly_rounded(numbers: list[str]) -> None:
    def message(channel: str) -> bytes:
        rows = ",".join(f"[0,{n}]" for n in numbers)
        return f'{{"series":[{{"evse":1,"t0":5,"ch":["{channel}"],"rows":[{rows}]}}]}}'.encode()

    check([message("SoC"), message(REGISTER)], SHARED)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=8))
def test_registers_are_exact_to_the_mwh(registers: list[int]) -> None:
    rows = ",".join(f"[0,{'-' if r < 0 else ''}{abs(r) // 1000}.{abs(r) % 1000:03d}]" for r in registers)
    message = f'{{"series":[{{"evse":1,"t0":5,"ch":["{REGISTER}"],"rows":[{rows}]}}]}}'.encode()
    got, _, status = read(taught([message], SHARED), [message])
    assert status.tolist() == [0]
    assert got.reg_mwh.tolist() == registers
