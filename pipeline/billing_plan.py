"""The billing plan that the configuration describes: tariffs read from their files."""

from __future__ import annotations

from pathlib import Path

from models.cashier import BillingPlan, Place
from models.dynamic import PriceSeries, Succession
from models.errors import ConfigError
from models.tariffs import TariffError, loads, read

from .config_billing import BillingSection, BillingSiteSection, OcpiSection


def billing_plan(
    section: BillingSection, ocpi: OcpiSection, prices: PriceSeries | None
) -> BillingPlan | None:
    """Return the plan, None where nothing is billed; `prices` are the market's.

    Raises
    ------
    ConfigError
        If a tariff file cannot be read, or a time zone is not known.
    """
    if not section.tariff_file and not any(site.tariff_file for site in section.sites):
        return None
    if not ocpi.country_code or not ocpi.party_id:
        raise ConfigError(
            "[billing] tariff_file: bills name who makes them; expected [ocpi] country_code and party_id"
        )
    plain = BillingSiteSection(site="*")
    default = _place(section, plain) if section.tariff_file else None
    places = {
        site.site: _place(section, site) for site in section.sites if site.tariff_file or section.tariff_file
    }
    return BillingPlan(ocpi.country_code, ocpi.party_id, section.ocpi_version, places, default, prices)


def _place(section: BillingSection, site: BillingSiteSection) -> Place:
    file = site.tariff_file or section.tariff_file
    where = f"[billing] site {site.site!r}, tariff_file = {file!r}"
    try:
        data = loads(Path(file).read_bytes())
        tariffs = [read(one) for one in (data if isinstance(data, list) else [data])]
        billers = Succession(tariffs, section.zones().get(site.site, section.time_zone))
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}; expected a readable JSON file") from error
    except (ValueError, TariffError) as error:
        raise ConfigError(f"{where}: {error}") from error
    return Place(
        billers,
        site.name,
        site.address,
        site.city,
        site.country or section.country,
        site.postal_code,
        site.latitude,
        site.longitude,
    )
