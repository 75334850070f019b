-- One row per shadow, or what a deleted one leaves: its counter. The classic shadow has the name ''.
CREATE TABLE shadow (
    tenant TEXT NOT NULL,
    thing_name TEXT NOT NULL,
    shadow_name TEXT NOT NULL,
    version INTEGER NOT NULL,
    numbering INTEGER NOT NULL,
    changed_at REAL NOT NULL,
    base_version INTEGER NOT NULL,
    base_at REAL NOT NULL,
    drift_since REAL,
    told_at REAL,
    tellings INTEGER,
    drift_keys INTEGER,
    document TEXT,
    PRIMARY KEY (tenant, thing_name, shadow_name)
) STRICT;
CREATE INDEX shadow_drift ON shadow (tenant, drift_since, thing_name, shadow_name) WHERE drift_since IS NOT NULL;
CREATE INDEX shadow_deleted ON shadow (changed_at) WHERE document IS NULL;

-- Rows are appended, so the order of `id` is that of time. `origin` is JSON: who asked, on which topic, with which token.
CREATE TABLE shadow_journal (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    thing_name TEXT NOT NULL,
    shadow_name TEXT NOT NULL,
    numbering INTEGER NOT NULL,
    version INTEGER NOT NULL,
    at REAL NOT NULL,
    origin TEXT NOT NULL,
    patch TEXT,
    document TEXT,
    UNIQUE (tenant, thing_name, shadow_name, numbering, version)
) STRICT;
