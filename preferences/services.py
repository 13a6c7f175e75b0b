"""The components of an installation, created once: settings, database, keys, catalog and connectors."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from preferences.config import ConnectorSettings, FeedSettings, Settings, SignInSettings
from preferences.domain.addresses import Fingerprints
from preferences.domain.records import Brand
from preferences.i18n import Templates
from preferences.ledger.group_commit import Writer
from preferences.store.batched_reads import Reader
from preferences.store.catalog import Catalog, read_catalog
from preferences.store.transactions import Database
from preferences.tokens import Links, ManageLink, UnsubscribeLink

CATALOG_SECONDS: Final = 2.0


class CatalogCache:
    """Brands and topics, which every page needs, reread every two seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None
        self._read_at = float("-inf")

    def last(self) -> Catalog | None:
        """The last catalog of any age, for when the database is unavailable."""
        return self._catalog

    def get(self, topic: str | None = None) -> Catalog:
        """At most two seconds old; reread if `topic` is not in it, since it may be new. Raises StoreBusy if a read
        fails."""
        catalog = self._fresh()
        if catalog is not None and (topic is None or topic in catalog.topics):
            return catalog
        with self._lock:
            catalog = self._fresh()
            if catalog is None or topic is not None:
                catalog = self._catalog = self._database.read(read_catalog)
                self._read_at = time.monotonic()
            return catalog

    def _fresh(self) -> Catalog | None:
        return self._catalog if time.monotonic() - self._read_at < CATALOG_SECONDS else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    settings: Settings
    database: Database
    fingerprints: Fingerprints
    writer: Writer
    reader: Reader
    links: Links
    catalog: CatalogCache
    connectors: Mapping[str, ConnectorSettings]
    feeds: Mapping[str, FeedSettings]
    sign_in_providers: Mapping[str, SignInSettings]
    templates: Templates
    style_version: str

    def root_of(self, brand: Brand | None) -> str:
        """The path of a brand's pages, without a final slash."""
        return self.settings.root + (f"/{brand.path}" if brand and brand.path else "")

    def url_of(self, brand: Brand | None) -> str:
        """The base URL of a brand's pages. A brand's host uses the scheme, port and path of `PUBLIC_URL`."""
        public = urlsplit(self.settings.public_url)
        port = f":{public.port}" if public.port else ""
        netloc = f"{brand.host}{port}" if brand and brand.host else public.netloc
        return f"{public.scheme}://{netloc}{self.root_of(brand)}"

    def unsubscribe_url(self, link: UnsubscribeLink) -> str:
        """For `List-Unsubscribe` and the text of the email. Raises StoreBusy."""
        return f"{self.url_of(self._brand(link.brand))}/u/{self.links.sign_unsubscribe(link)}"

    def manage_url(self, link: ManageLink) -> str:
        """Raises StoreBusy."""
        return f"{self.url_of(self._brand(link.brand))}/p/{self.links.sign_manage(link)}"

    def _brand(self, slug: str) -> Brand | None:
        return self.catalog.get().brands.get(slug)
