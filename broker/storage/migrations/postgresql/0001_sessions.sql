-- The broker's state: what `broker/session/records.py` describes.
--
-- Times are seconds since the epoch. `flags` of a message: its QoS, +4 for RETAIN; those of a delivery: the same of
-- its message, +8 times the QoS of the delivery, +32 for its RETAIN. `rare` is what few messages have (properties,
-- identifiers and the like), as MessagePack with a format number; NULL without any of it.
--
-- What comes from outside is bytea, UTF-8 where it is text: a TEXT cannot hold every character, and one value that is
-- refused would fail the commit of all. What may be longer than an index can hold has its SHA-256 in the key.

CREATE TABLE session (
    number bigint PRIMARY KEY,
    tenant bytea NOT NULL,
    client_id bytea NOT NULL,
    expiry_interval bigint NOT NULL,
    disconnected_at double precision,
    identity bytea,
    dropped bigint NOT NULL
);

-- What is left of these is deleted in batches.
CREATE TABLE dropped_session (number bigint PRIMARY KEY);

CREATE TABLE subscription (
    session bigint NOT NULL,
    filter bytea NOT NULL,
    filter_sha256 bytea NOT NULL GENERATED ALWAYS AS (sha256(filter)) STORED,
    qos integer NOT NULL,
    is_no_local boolean NOT NULL,
    is_retain_as_published boolean NOT NULL,
    retain_handling integer NOT NULL,
    identifier integer,
    PRIMARY KEY (session, filter_sha256)
);

-- Packet ids of QoS 2 messages that the Client has not released.
CREATE TABLE inbound (
    session bigint NOT NULL,
    packet_id integer NOT NULL,
    PRIMARY KEY (session, packet_id)
);

-- Pending with packet id 0, otherwise in flight. The message stands in its row, or in `message` if other deliveries of
-- the same commit share it.
CREATE TABLE delivery (
    number bigint PRIMARY KEY,
    session bigint NOT NULL,
    packet_id integer NOT NULL,
    flow integer,
    flags integer NOT NULL,
    size integer NOT NULL,
    expires_at double precision,
    rare bytea,
    message bigint,
    topic bytea,
    payload bytea
);

-- Answers what waits for a session, and how much, without a look at the deliveries.
CREATE INDEX delivery_pending ON delivery (session, number) INCLUDE (size) WHERE packet_id = 0;
CREATE INDEX delivery_in_flight ON delivery (session, number) WHERE packet_id > 0;
CREATE INDEX delivery_by_message ON delivery (message) WHERE message IS NOT NULL;
CREATE INDEX delivery_expiring ON delivery (expires_at) WHERE packet_id = 0 AND expires_at IS NOT NULL;

CREATE TABLE message (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    topic bytea NOT NULL,
    payload bytea NOT NULL,
    rare bytea
);

-- Messages that a delivery no longer refers to; if none does, they are deleted, in batches.
CREATE TABLE released_message (id bigint PRIMARY KEY);

CREATE FUNCTION release_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO released_message VALUES (OLD.message) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER delivery_deleted AFTER DELETE ON delivery
    FOR EACH ROW WHEN (OLD.message IS NOT NULL) EXECUTE FUNCTION release_message();

CREATE TRIGGER delivery_replaced AFTER UPDATE OF message ON delivery
    FOR EACH ROW WHEN (OLD.message IS NOT NULL) EXECUTE FUNCTION release_message();

CREATE TABLE will (
    tenant bytea NOT NULL,
    client_id bytea NOT NULL,
    client_sha256 bytea NOT NULL GENERATED ALWAYS AS (sha256(client_id)) STORED,
    delay_s bigint NOT NULL,
    topic bytea NOT NULL,
    payload bytea NOT NULL,
    flags integer NOT NULL,
    expires_at double precision,
    rare bytea,
    PRIMARY KEY (tenant, client_sha256)
);

CREATE TABLE retained (
    tenant bytea NOT NULL,
    topic bytea NOT NULL,
    topic_sha256 bytea NOT NULL GENERATED ALWAYS AS (sha256(topic)) STORED,
    payload bytea NOT NULL,
    flags integer NOT NULL,
    expires_at double precision,
    rare bytea,
    PRIMARY KEY (tenant, topic_sha256)
);

-- One row. The numbers must not come again although all rows that had them are deleted.
CREATE TABLE session_counters (
    next_row bigint NOT NULL,
    next_session bigint NOT NULL,
    at double precision NOT NULL
);

INSERT INTO session_counters VALUES (1, 1, 0);
