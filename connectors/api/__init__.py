"""The web side: the page, its JSON and /metrics."""
