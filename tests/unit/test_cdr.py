"""CDRs: the specification's own examples, CDRs of our prices, corrections, signed data as it came."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from models.cdr import Cdr221, Cdr230, CdrLocation, CdrToken, SignedData, correct, credit_of, read_cdr
from models.cdr_of import CdrIdentity, Version, cdr_id, cdr_of, cdr_text, revised, to_221, to_230
from models.dynamic import Biller
from models.pricing import price
from models.pricing_cases import read_cdr as prepare
from models.rating import SUSPENDED_EV, Reservation, Transaction, rate
from models.tariffs import TariffError, loads, read
from models.tariffs.ocpi import Tariff221, Tariff230, departures

from .pricing_builders import component, element, tariff
from .test_rating import HOUR, KWH, MINUTE, T0, charge, compiled, ocpp

NOW = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
OCMF = 'OCMF|{"FV" : "1.0",  "RV":" 12.340"}|{"SD":"30"}'
IDENTITY = CdrIdentity(
    country_code="DE",
    party_id="CHS",
    id="2026-000001",
    session_id="S1",
    token=CdrToken(country_code="DE", party_id="EMP", uid="04A2", type="RFID", contract_id="DE-EMP-C1-X"),
    auth_method="WHITELIST",
    location=CdrLocation.model_validate(
        {
            "id": "L1", "address": "Weg 1", "city": "Ulm", "country": "DEU", "evse_uid": "E1",
            "coordinates": {"latitude": "48.39840", "longitude": "9.99155"}, "evse_id": "DE*CHS*E1",
            "connector_id": "1", "connector_standard": "IEC_62196_T2", "connector_format": "SOCKET",
            "connector_power_type": "AC_3_PHASE",
        }
    ),
    last_updated=NOW,
    authorization_reference="AUTH-1",
    signed_data=SignedData.model_validate(
        {"encoding_method": "OCMF", "signed_values": [
            {"nature": "Start", "plain_data": OCMF, "signed_data": OCMF}]}
    ),
)  # fmt: skip
OWN = compiled(
    element(component("FLAT", "0.5", vat="20")),
    element(component("ENERGY", "0.333", 1, "10"), component("PARKING_TIME", "2", 900, "20")),
)
PARKED = charge(T0, 61, 10.001, parked=20)


def example(data_dir: Path, name: str) -> Any:
    return loads((data_dir / "ocpi" / "cdrs" / name).read_text())


@pytest.mark.parametrize(("version", "model"), [("2.2.1", Cdr221), ("2.3.0", Cdr230)])
def test_the_example_of_the_specification_reads_and_writes_the_same(
    data_dir: Path, version: str, model: type
) -> None:
    data = example(data_dir, f"ocpi-{version}_cdr_example.json")
    cdr = read_cdr(data)
    assert isinstance(cdr, model)
    assert cdr.to_json() == json.loads(json.dumps(data, default=float))
    if isinstance(cdr, Cdr230):  # the specification forgot it
        assert departures(cdr.tariffs[0]) == ["tax_included is missing: prices are taken to be without tax"]


def test_the_session_example_is_no_cdr(data_dir: Path) -> None:
    with pytest.raises(TariffError, match="cdr_location: Field required"):
        read_cdr(example(data_dir, "ocpi-2.3.0_session_example_2_short_finished.json"))


def test_every_tariff_of_the_data_folder_keeps_its_text(data_dir: Path) -> None:
    for path in sorted((data_dir / "ocpi" / "tariffs").glob("*.json")):
        data = loads(path.read_text())
        made = read(data)
        assert isinstance(made, Tariff221 if "v2.2.1" in path.name else Tariff230)
        assert made.to_json() == json.loads(json.dumps(data, default=float)), path.name


def test_a_cdr_states_what_was_priced() -> None:
    cdr = cdr_of(rate(PARKED, OWN), IDENTITY)
    assert isinstance(cdr, Cdr221)
    data = cdr.to_json()
    assert data["total_cost"] == {"excl_vat": 4.83, "incl_vat": 5.46}  # 0.5 + 3.330333 + 1.0 net
    assert data["total_energy"] == 10.001
    assert (data["total_time"], data["total_parking_time"]) == (1.35, 0.3333)
    assert data["total_energy_cost"] == {"excl_vat": 3.3303, "incl_vat": 3.6634}
    assert data["total_fixed_cost"] == {"excl_vat": 0.5, "incl_vat": 0.6}
    assert [p["start_date_time"] for p in data["charging_periods"]] == [
        "2026-03-10T10:00:00Z", "2026-03-10T11:01:00Z"
    ]  # fmt: skip
    assert data["signed_data"]["signed_values"][0]["signed_data"] == OCMF
    assert read_cdr(json.loads(json.dumps(data))) == cdr
    again = prepare(loads(json.dumps(data)))
    assert price(again.tariff, again.session).net == rate(PARKED, OWN).price.net


def test_a_tariff_made_for_the_session_is_whole_in_the_cdr() -> None:
    spot = read({"kind": "spot", "id": "S", "currency": "EUR", "fallback": ["fixed"], "fixed": 1})
    bill = Biller(spot, "Europe/Berlin").bill(charge(T0, 20, 2))
    cdr = cdr_of(bill.rated, IDENTITY, "2.3.0")
    assert departures(cdr.tariffs[0]) == []
    assert [p.start_date_time.minute for p in cdr.charging_periods] == [0, 15]
    again = prepare(loads(json.dumps(cdr.to_json())), time_zone="Europe/Berlin")
    assert price(again.tariff, again.session).net == bill.rated.price.net


def test_taxes_of_2_3_0_add_up_to_the_gross() -> None:
    made = rate(PARKED, OWN)
    cdr = cdr_of(made, IDENTITY, "2.3.0")
    assert isinstance(cdr, Cdr230)
    assert [(t.percentage, t.amount) for t in cdr.total_cost.taxes] == [
        (Decimal(10), Decimal("0.33")), (Decimal(20), Decimal("0.30"))
    ]  # fmt: skip
    total = cdr.total_cost.before_taxes + sum(t.amount for t in cdr.total_cost.taxes)
    assert total == made.price.gross_rounded
    assert cdr.tariffs[0].tax_included == "NO"


@pytest.mark.parametrize("version", ["2.2.1", "2.3.0"])
def test_a_limit_shows_in_the_total_only(version: Version) -> None:
    own = compiled(
        element(component("ENERGY", "1", vat="10")), max_price={"before_taxes": 5, "after_taxes": 6}
    )
    data = cdr_of(rate(charge(T0, 60, 10), own), IDENTITY, version).to_json()
    if version == "2.2.1":
        assert data["total_cost"] == {"excl_vat": 5, "incl_vat": 6}
        assert data["tariffs"][0]["max_price"] == {"excl_vat": 5, "incl_vat": 6}
        assert "tax_included" not in data["tariffs"][0]
    else:
        assert data["total_cost"] == {"before_taxes": 5, "taxes": [{"name": "VAT", "amount": 1}]}
        assert data["total_energy_cost"]["before_taxes"] == 10


def test_a_reservation_starts_the_cdr_and_has_its_own_cost() -> None:
    own = compiled(
        element(component("TIME", "3", 600), reservation="RESERVATION"), element(component("ENERGY", "0.25"))
    )
    waited = charge(T0 + 22 * MINUTE, 60, 20, reservation=Reservation(T0, T0 + 22 * MINUTE))
    data = cdr_of(rate(waited, own), IDENTITY).to_json()
    assert data["start_date_time"] == "2026-03-10T10:00:00Z"
    assert data["total_time"] == 1
    assert data["total_reservation_cost"] == {"excl_vat": 1.5, "incl_vat": 1.5}
    assert data["charging_periods"][0]["dimensions"] == [{"type": "RESERVATION_TIME", "volume": 0.3667}]


def test_the_flat_part_of_a_parking_element_is_parking() -> None:
    own = compiled(element(component("FLAT", "1"), component("PARKING_TIME", "6")))
    data = cdr_of(rate(PARKED, own), IDENTITY).to_json()
    assert data["total_parking_cost"]["excl_vat"] == 3
    assert "total_fixed_cost" not in data


def test_a_correction_is_a_credit_and_a_new_cdr() -> None:
    sent = cdr_of(rate(PARKED, OWN), IDENTITY, "2.3.0")
    before = json.dumps(sent.to_json())
    renewed = msgspec.structs.replace(IDENTITY, id="2026-000002")
    new = cdr_of(rate(charge(T0, 61, 9, parked=20), OWN), renewed, "2.3.0")
    later = NOW + dt.timedelta(days=2)
    credit, after = correct(sent, new, later)
    assert after is new
    assert json.dumps(sent.to_json()) == before
    data, old = credit.to_json(), sent.to_json()
    assert data["total_cost"]["before_taxes"] == -old["total_cost"]["before_taxes"]
    assert [t["amount"] for t in data["total_cost"]["taxes"]] == [-0.33, -0.3]
    changed = {name for name in data if data[name] != old.get(name)}
    assert changed == {"id", "credit", "credit_reference_id", "total_cost", "last_updated"}
    assert (data["id"], data["credit_reference_id"]) == ("2026-000001-C", "2026-000001")
    assert read_cdr(data) == credit
    with pytest.raises(TariffError, match="cannot be credited"):
        credit_of(credit, later)
    with pytest.raises(TariffError, match="never replaced"):
        correct(sent, sent, later)


def test_pricing_again_sends_only_what_changed() -> None:
    names = [cdr_id("S", "CP", "tx", revision) for revision in (0, 1)]
    assert names == [cdr_id("S", "CP", "tx", revision) for revision in (0, 1)]
    assert {len(name) for name in names} == {36}
    later = NOW + dt.timedelta(days=1)

    def made(revision: int, kwh: float) -> Any:
        own = msgspec.structs.replace(
            IDENTITY, id=names[revision], last_updated=NOW + dt.timedelta(days=revision)
        )
        return cdr_of(rate(charge(T0, 61, kwh), OWN), own)

    first = made(0, 9)
    assert revised(None, first, NOW) == (first,)
    assert revised(cdr_text(first), made(1, 9), later) == ()
    credit, new = revised(cdr_text(first), made(1, 9.001), later)
    assert (credit.id, credit.credit_reference_id, new.id) == (names[0] + "-C", names[0], names[1])
    assert credit.to_json()["total_cost"]["excl_vat"] == -first.to_json()["total_cost"]["excl_vat"]
    assert new.total_energy == Decimal("9.001")


def test_a_cdr_cannot_be_changed() -> None:
    cdr = cdr_of(rate(PARKED, OWN), IDENTITY)
    name = "id"
    with pytest.raises(ValidationError, match="frozen"):
        setattr(cdr, name, "other")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"end_date_time": "2020-01-01T00:00:00Z"}, "lies before start_date_time"),
        ({"credit": True}, "go together"),
        ({"id": "x" * 37}, "36 characters at most"),
        ({"charging_periods": []}, "at least 1 item"),
        ({"currency": "EURO"}, "currency"),
        ({"charging_periods": [{"start_date_time": "2026-03-10T10:00:00Z",
                                "dimensions": [{"type": "POWER", "volume": 1}]}]}, "Sessions only"),
    ],
)  # fmt: skip
def test_what_is_no_cdr_says_why(change: dict[str, Any], words: str) -> None:
    data = cdr_of(rate(PARKED, OWN), IDENTITY).to_json()
    with pytest.raises(TariffError, match=words):
        read_cdr(data | change)


def test_tariffs_change_their_spelling_not_their_price() -> None:
    old = read({"id": "T", "currency": "EUR", "min_price": {"excl_vat": 1, "incl_vat": 2},
                "elements": [element(component("ENERGY", "1"))]})  # fmt: skip
    new = to_230(old)
    assert (new.tax_included, new.limits) == ("NO", old.limits)
    assert to_221(new).to_json() == old.to_json()
    inside = read(tariff(element(component("ENERGY", "1", vat="7")), tax_included="YES"))
    with pytest.raises(TariffError, match=r"OCPI 2\.2\.1 cannot say that"):
        to_221(inside)


def test_a_tariff_of_ocpp_leaves_the_list_empty() -> None:
    own = ocpp(energy={"prices": [{"priceKwh": 1}]})
    data = cdr_of(rate(PARKED, own), IDENTITY).to_json()
    assert data["tariffs"] == []
    assert data["total_cost"]["excl_vat"] == 10


def test_running_cost_grows_with_the_session() -> None:
    """The cost of a running transaction is what it would cost if it ended now."""
    costs = [
        rate(
            Transaction(
                start_ms=T0,
                end_ms=T0 + minutes * MINUTE,
                readings=[(T0, 0), (T0 + min(minutes, 60) * MINUTE, min(minutes, 60) * KWH // 6)],
                spans=[(T0 + HOUR, SUSPENDED_EV)],
            ),
            OWN,
        ).price.net
        for minutes in (0, 30, 60, 80)
    ]
    assert costs == sorted(costs)
    assert costs[0] == Fraction(1, 2)
    assert costs[-1] == Fraction("0.5") + Fraction("3.33") + 1
