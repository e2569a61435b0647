"""What the cache tells about itself."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

CHANGES = Counter("moor_cache_changes_total", "Keys that changed.")
RESETS = Counter("moor_cache_resets_total", "Times the whole truth was read anew (start, or after a gap in the watch).")
REPAIRS = Counter("moor_cache_repairs_total", "Keys that the slow comparison with the store found wrong and repaired.")
UNREADABLE = Counter("moor_cache_unreadable_total", "Keys whose value could not be understood; they were left out.")
REVISION = Gauge("moor_cache_revision", "The store's revision that the cache has reached.")
ALLOCATIONS = Gauge("moor_cache_allocations", "Allocations known, ended ones included.")
