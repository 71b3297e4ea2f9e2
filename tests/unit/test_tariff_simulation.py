"""Past sessions under other tariffs: revenue, peaks and who pays more."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from models.rating import QUARTER_MS
from models.tariff_simulation import effect, latest, past_session, simulate, transaction_of
from models.tariffs import TariffError, loads, read
from pipeline import cli
from tests.convert.session_list import write
from tests.convert.sessions import acn_sessions

from .pricing_builders import component, element, tariff
from .test_rating import HOUR, KWH, MINUTE, ms

T0 = ms("2026-07-01T10:00:00+02:00")
CHEAP = read(tariff(element(component("ENERGY", "0.3")), id="CHEAP"))
PARKING = read(tariff(element(component("ENERGY", "0.25"), component("PARKING_TIME", "6")), id="PARKING"))


def row(number: int, start: int, hours: float, kwh: float, **more: Any) -> dict[str, Any]:
    made = {"site": "S", "station": "CP", "evse": number, "transaction_id": f"tx{number}-{start}",
            "start": start, "end": start + round(hours * HOUR), "energy_wh": kwh * 1000,
            "state": "complete"}  # fmt: skip
    return made | more


def test_only_billable_sessions_and_their_last_revision_count() -> None:
    rows = [row(1, T0, 1, 5, revision=1), row(1, T0, 1, 6, revision=2), row(2, T0, 1, 1, state="review")]
    (only,) = latest(rows)
    assert only.energy == 6 * KWH
    assert past_session(row(3, T0, 1, 1, state="open")) is None


def test_energy_flows_at_the_given_power_then_the_car_is_idle() -> None:
    (session,) = latest([row(1, T0, 4, 11)])
    made = transaction_of(session, power_kw=Decimal(11))
    assert made.readings == [(T0, 0), (T0 + HOUR, 11 * KWH)]
    assert made.spans == [(T0 + HOUR, "suspended_ev")]
    assert transaction_of(session).readings[-1] == (T0 + 4 * HOUR, 11 * KWH)


def test_a_load_profile_shapes_the_energy() -> None:
    (session,) = latest([row(1, T0 + 5 * MINUTE, 0.5, 3)])
    quarters = [(T0, 2 * KWH), (T0 + QUARTER_MS, 0), (T0 + 2 * QUARTER_MS, KWH)]
    made = transaction_of(session, quarters)
    shares = [
        Fraction(2 * 10, 15),
        Fraction(0),
        Fraction(5, 15),
    ]  # the part within
    total = sum(shares)
    expected = [3 * KWH * sum(shares[: i + 1]) // total for i in range(3)]
    assert [e for _, e in made.readings] == [0, *expected]
    assert made.readings[-1] == (session.end_ms, 3 * KWH)


def test_revenue_peaks_and_effects() -> None:
    rows = [row(1, T0, 4, 11, token_hash="a"), row(2, T0, 1, 11, token_hash="b")]
    sessions = latest(rows)
    cheap, parking = simulate([CHEAP, PARKING], sessions, time_zone="Europe/Berlin", power_kw=Decimal(11))
    assert cheap.net == 22 * Fraction("0.3")
    assert parking.net == 22 * Fraction("0.25") + 3 * 6
    (peak,) = cheap.demand_charges
    assert (peak["peak_kw"], peak["month"], peak["at"]) == ("22", "2026-07", "2026-07-01T10:00:00+02:00")
    seen = effect(cheap, parking, sessions)
    assert (seen["by"], seen["pay_less"], seen["pay_more"]) == ("customer", 1, 1)
    assert seen["revenue"] == "16.90"
    assert effect(cheap, cheap, sessions)["same"] == 2


def test_occupancy_and_load_of_the_site_choose_the_step() -> None:
    steps = [{"below": Decimal("0.5"), "tariff": tariff(element(component("ENERGY", "0.1")))},
             {"tariff": tariff(element(component("ENERGY", "1")))}]  # fmt: skip
    busy = read({"kind": "adaptive", "id": "BUSY", "by": "occupancy", "steps": steps})
    sessions = latest([row(1, T0, 2, 1), row(2, T0 + HOUR, 2, 1), row(1, T0 + 4 * HOUR, 1, 1)])
    (made,) = simulate([busy], sessions)
    assert made.net == Fraction("1.2")  # only the second found half the plugs in use
    loaded = read({"kind": "adaptive", "id": "LOAD", "by": "site_kw", "steps": steps})
    (made,) = simulate([loaded], sessions, power_kw=Decimal(1))
    assert made.net == Fraction("1.2")  # 1 kW flowed before the second


def test_what_cannot_be_priced_is_counted_not_free() -> None:
    spot = read({"kind": "spot", "id": "SPOT", "currency": "EUR"})
    _, made = simulate([CHEAP, spot], latest([row(1, T0, 1, 1)]))
    assert (made.sessions, made.unpriced) == (0, {"no price": 1})
    assert effect(made, made, [])["compared"] == 0


def test_tariffs_of_two_currencies_are_not_compared() -> None:
    other = read(tariff(element(component("ENERGY", "1")), currency="SEK"))
    with pytest.raises(TariffError, match="EUR, SEK"):
        simulate([CHEAP, other], [])


@pytest.mark.parametrize(
    "change", [{"energy_wh": -1}, {"end": 0}, {"energy_wh": None}, {"site": None, "start": "x"}]
)
def test_impossible_sessions_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TariffError, match="session 'tx1"):
        past_session(row(1, T0, 1, 1) | change)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(CHEAP.to_json()))
    (tmp_path / "b.json").write_text(json.dumps(PARKING.to_json()))
    (tmp_path / "sessions.jsonl").write_text(
        "\n".join(json.dumps(row(1, T0 + i * HOUR, 1, 5)) for i in range(3))
    )
    (tmp_path / "intervals.csv").write_text(
        "site,station,evse,start,energy_wh,quality,revision\n"
        f"S,CP,1,{T0},5000,measured,1\nS,CP,1,{T0},4000,measured,0\nS,CP,1,{T0 + QUARTER_MS},,missing,0\n"
    )
    words = ["tariff", "simulate", "--sessions", str(tmp_path / "sessions.jsonl")]
    for name in ("a.json", "b.json"):
        words += ["--tariff", str(tmp_path / name)]
    assert cli.main([*words, "--load-profile", str(tmp_path / "intervals.csv")]) == 0
    shown = capsys.readouterr().out
    assert "revenue excl. tax EUR" in shown
    assert "20" in next(line for line in shown.splitlines() if line.startswith("highest peak"))
    assert cli.main([*words, "--json", "--power-kw", "5"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [t["revenue_excl"] for t in data["tariffs"]] == ["4.50", "3.75"]
    assert cli.main(["tariff", "check", str(tmp_path / "a.json")]) == 0
    assert capsys.readouterr().out.startswith(f"ok: {tmp_path / 'a.json'}: Tariff230 'CHEAP' in EUR")
    (tmp_path / "sessions.jsonl").write_text("{\n")
    assert cli.main(words) == 2
    assert "sessions.jsonl:1: no JSON" in capsys.readouterr().err


def test_sessions_of_a_workplace_under_schedules_of_a_utility(data_dir: Path, tmp_path: Path) -> None:
    """Revenue of 300 real sessions, against a reckoning hour by hour that knows only the schedule."""
    out = tmp_path / "sessions.jsonl"
    assert write(itertools.islice(acn_sessions(data_dir), 300), out) == 300
    sessions = latest(loads(line) for line in out.read_text().splitlines())
    schedule = loads((data_dir / "ev" / "us-tou-tariffs" / "sce_tou_ev_4_march_2019.json").read_text())
    (made,) = simulate([read(schedule)], sessions, time_zone="America/Los_Angeles", power_kw=Decimal("6.6"))
    expected = Fraction(0)
    for session in sessions:
        stop = min(session.end_ms, session.start_ms + session.energy * 36 // 66)
        hour = session.start_ms - session.start_ms % HOUR
        done = 0
        while hour < stop:
            until = min(hour + HOUR, stop)
            so_far = session.energy * (until - session.start_ms) // (stop - session.start_ms)
            local = dt.datetime.fromtimestamp(hour // 1000, ZoneInfo("America/Los_Angeles"))
            season = "Summer" if 6 <= local.month <= 9 else "Winter"
            name = f"{season}-{'Weekday' if local.weekday() < 5 else 'Weekend'}"
            entry = next(s for s in schedule["schedule"] if s["id"] == name)
            price = max(
                (t, p) for t, p in zip(entry["times"], entry["tariffs"], strict=True) if t <= local.hour
            )[1]
            expected += Fraction(so_far - done, KWH) * Fraction(price)
            done, hour = so_far, until
    assert made.sessions == 300
    assert made.energy == sum(s.energy for s in sessions)
    # whole Wh are billed: up to 1 Wh a session at the last price
    assert 0 <= made.net - expected <= Fraction(300, 1000) * Fraction("0.27")
