-- The broker's state: what `broker/session/records.py` describes.
--
-- Times are seconds since the epoch. `flags` of a message: its QoS, +4 for RETAIN; those of a delivery: the same of
-- its message, +8 times the QoS of the delivery, +32 for its RETAIN. `rare` is what few messages have (properties,
-- identifiers and the like), as MessagePack with a format number; NULL without any of it.

CREATE TABLE session (
    number INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    client_id TEXT NOT NULL,
    expiry_interval INTEGER NOT NULL,
    disconnected_at REAL,
    identity TEXT,
    dropped INTEGER NOT NULL
) STRICT;

-- What is left of these is deleted in batches.
CREATE TABLE dropped_session (number INTEGER PRIMARY KEY) STRICT;

CREATE TABLE subscription (
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    filter BLOB NOT NULL,
    qos INTEGER NOT NULL,
    is_no_local INTEGER NOT NULL,
    is_retain_as_published INTEGER NOT NULL,
    retain_handling INTEGER NOT NULL,
    identifier INTEGER,
    UNIQUE (session, filter)
) STRICT;

-- Packet ids of QoS 2 messages that the Client has not released.
CREATE TABLE inbound (
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    packet_id INTEGER NOT NULL,
    UNIQUE (session, packet_id)
) STRICT;

-- Pending with packet id 0, otherwise in flight. The message stands in its row, or in `message` if other deliveries of
-- the same commit share it.
CREATE TABLE delivery (
    row INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    packet_id INTEGER NOT NULL,
    flow INTEGER,
    flags INTEGER NOT NULL,
    size INTEGER NOT NULL,
    expires_at REAL,
    rare BLOB,
    message INTEGER,
    topic BLOB,
    payload BLOB
) STRICT;

-- Answers what waits for a session, and how much, without a look at the deliveries.
CREATE INDEX delivery_by_session ON delivery (session, packet_id, row, size);
CREATE INDEX delivery_by_message ON delivery (message) WHERE message IS NOT NULL;
CREATE INDEX delivery_expiring ON delivery (expires_at) WHERE packet_id = 0 AND expires_at IS NOT NULL;

CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    topic BLOB NOT NULL,
    payload BLOB NOT NULL,
    rare BLOB
) STRICT;

-- Messages that a delivery no longer refers to; if none does, they are deleted, in batches.
CREATE TABLE released_message (id INTEGER PRIMARY KEY) STRICT;

CREATE TRIGGER delivery_deleted AFTER DELETE ON delivery WHEN OLD.message IS NOT NULL
BEGIN
    -- Not OR IGNORE: in a trigger the conflict policy of the statement outside counts.
    INSERT INTO released_message SELECT OLD.message
    WHERE NOT EXISTS (SELECT 1 FROM released_message WHERE id = OLD.message);
END;

CREATE TRIGGER delivery_replaced AFTER UPDATE OF message ON delivery WHEN OLD.message IS NOT NULL
BEGIN
    -- Not OR IGNORE: in a trigger the conflict policy of the statement outside counts.
    INSERT INTO released_message SELECT OLD.message
    WHERE NOT EXISTS (SELECT 1 FROM released_message WHERE id = OLD.message);
END;

CREATE TABLE will (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    client_id TEXT NOT NULL,
    delay_s INTEGER NOT NULL,
    topic BLOB NOT NULL,
    payload BLOB NOT NULL,
    flags INTEGER NOT NULL,
    expires_at REAL,
    rare BLOB,
    UNIQUE (tenant, client_id)
) STRICT;

CREATE TABLE retained (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    topic BLOB NOT NULL,
    payload BLOB NOT NULL,
    flags INTEGER NOT NULL,
    expires_at REAL,
    rare BLOB,
    UNIQUE (tenant, topic)
) STRICT;

-- One row. The numbers must not come again although all rows that had them are deleted.
CREATE TABLE session_counters (
    next_row INTEGER NOT NULL,
    next_session INTEGER NOT NULL,
    at REAL NOT NULL
) STRICT;

INSERT INTO session_counters VALUES (1, 1, 0);
