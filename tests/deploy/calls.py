"""The calls that HotMesh's documentation makes, and what they return."""

from __future__ import annotations

RESULT = (
    "deleted_jobs",
    "deleted_streams",
    "deleted_engine_streams",
    "deleted_worker_streams",
    "stripped_attributes",
    "deleted_transient",
    "marked_pruned",
    "deleted_signals",
)

# By name; {} is the app's schema.
DOCUMENTED = {
    "strip only": "SELECT * FROM {}.prune('0 seconds', false, false, true)",
    "books only": "SELECT * FROM {}.prune('30 days', true, false, false, ARRAY['book'])",
    "everything": "SELECT * FROM {}.prune('7 days', true, true, true)",
    "a window per stream": (
        "SELECT * FROM {}.prune('7 days', true, false, false, NULL, false, false, true, true,"
        " INTERVAL '24 hours', INTERVAL '90 days')"
    ),
}

CALLS = {
    **DOCUMENTED,
    "eleven arguments": (
        "SELECT * FROM {}.prune('7 days', true, true, true, NULL, false, false, NULL, NULL,"
        " NULL, NULL)"
    ),
    "by name": (
        "SELECT * FROM {}.prune(strip_attributes => true, retention => '1 day',"
        " prune_signals => false)"
    ),
}
