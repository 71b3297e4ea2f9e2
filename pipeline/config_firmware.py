"""Settings of firmware delivery: the repository, the server of images, chunks over MQTT."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from models.secret import Secret

from .config_sections import SecretValue, Section, clash


class FirmwareSection(Section):
    """Firmware images for stations."""

    enabled: bool = Field(False, description="Serve images over HTTP: chargestream firmware serve.")
    repository: str = Field(
        "", description="Folder of images and metadata; empty: firmware in the data folder."
    )
    root_file: str = Field(
        "", description="Root metadata that is trusted, a copy kept outside the repository."
    )
    online_keys_dir: str = Field(
        "",
        description="Keys of snapshot and timestamp: the server signs anew in time; empty: others do.",
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8090, ge=0, le=65535, description="TCP port; 0: any free one.")
    public_url: str = Field(
        "",
        pattern=r"^$|^https?://[^\s/]+[^\s]*$",
        description="Address as stations reach it; in OCPP's location.",
    )
    tls_cert_file: str = Field("", description="PEM certificate of the server; empty: HTTP without TLS.")
    tls_key_file: str = Field("", description="PEM key of the server.")
    foreign_hosts: list[str] = Field(
        [],
        description="Hosts (patterns) that a campaign's location may name instead of ours; none: only ours.",
    )
    url_secret: SecretValue = Field(Secret(), description="Signs addresses; 32 characters or more.")
    url_secret_old: SecretValue = Field(
        Secret(), description="The one before, while its addresses still count."
    )
    bandwidth_bytes: int = Field(
        0, ge=0, le=10_000_000_000, description="Shared by all downloads, each second; 0: no limit."
    )
    max_downloads: int = Field(
        100, ge=1, le=100_000, description="At once; others are told when to come again."
    )
    station_starts: int = Field(30, ge=1, le=10_000, description="Downloads of one station a minute.")
    retry_s: float = Field(
        30.0, ge=1, le=3_600, description="Who is turned away comes again after this or up to twice as long."
    )
    shed_enabled: bool = Field(
        True, description="Publish which stations were put off: campaigns then count no failure."
    )
    chunks_enabled: bool = Field(False, description="Answer requests for chunks over MQTT.")
    chunk_max_bytes: int = Field(16_384, ge=256, le=1_048_576, description="Longest chunk over MQTT.")
    chunk_window: int = Field(4, ge=1, le=64, description="Requests of one node that may wait.")
    chunk_in_flight: int = Field(64, ge=1, le=10_000, description="Chunks that wait for the broker's word.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.enabled or self.chunks_enabled) and not self.root_file:
            raise clash("root_file", "the file that chargestream firmware init-repo wrote with --pin")
        if (self.enabled or self.chunks_enabled) and not self.url_secret:
            raise clash("url_secret", 'a reference "env:NAME" or "file:PATH", because images are served')
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise clash("tls_key_file", "set together with tls_cert_file")
        return self
