"""Dashboards as code; Grafana reads the JSON files that `grafana.build` writes from it."""

import warnings

# The SDK advises its newer dashboard schema whenever the classic one is imported; but the classic one is what
# provisioning reads from files in older and newer Grafana alike.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import dashboard, stat  # noqa: F401  # imported for that advice
