-- One row per shadow, or what a deleted one leaves: its counter. The classic shadow has the name ''.
-- Documents are text: jsonb would change numbers, and the order of keys.
CREATE TABLE shadow (
    tenant text NOT NULL,
    thing_name text COLLATE "C" NOT NULL,
    shadow_name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    numbering bigint NOT NULL,
    changed_at double precision NOT NULL,
    base_version bigint NOT NULL,
    base_at double precision NOT NULL,
    drift_since double precision,
    told_at double precision,
    tellings integer,
    drift_keys integer,
    document text,
    PRIMARY KEY (tenant, thing_name, shadow_name)
) WITH (fillfactor = 70);
CREATE INDEX shadow_drift ON shadow (tenant, drift_since, thing_name, shadow_name) WHERE drift_since IS NOT NULL;
CREATE INDEX shadow_deleted ON shadow (changed_at) WHERE document IS NULL;

-- `origin` is JSON: who asked, on which topic, with which token.
CREATE TABLE shadow_journal (
    tenant text NOT NULL,
    thing_name text COLLATE "C" NOT NULL,
    shadow_name text COLLATE "C" NOT NULL,
    numbering bigint NOT NULL,
    version bigint NOT NULL,
    at double precision NOT NULL,
    origin text NOT NULL,
    patch text,
    document text,
    PRIMARY KEY (tenant, thing_name, shadow_name, numbering, version)
);
CREATE INDEX shadow_journal_at ON shadow_journal USING brin (at);

-- Requests whose change is committed and that a broker may still send again; of several processes that share the work.
CREATE TABLE shadow_done (
    tenant text NOT NULL,
    request_id text NOT NULL,
    run text NOT NULL,
    numbering bigint NOT NULL,
    version bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, request_id)
);
CREATE INDEX shadow_done_at ON shadow_done (at);
