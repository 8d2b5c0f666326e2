-- The tables of one schema. `search_path` is the schema. Text that can contain any bytes is bytea; times are milliseconds
-- by `now_ms()`. A change here is also a step of UPGRADES in database.py.

CREATE SEQUENCE jobs_seq;
CREATE TABLE jobs (
    seq bigint PRIMARY KEY DEFAULT nextval('jobs_seq'), queue text COLLATE "C" NOT NULL, id bytea NOT NULL,
    name bytea NOT NULL DEFAULT '', envelope bytea NOT NULL, due_ms bigint NOT NULL CHECK (due_ms <= 253402300799999),
    uniq boolean NOT NULL DEFAULT false, trace bytea NOT NULL DEFAULT '',
    keep_ms bigint NOT NULL DEFAULT 3600000  -- of a unique job: how long its id stays taken after its promotion
);
CREATE INDEX jobs_due ON jobs (queue, due_ms, seq);
CREATE INDEX jobs_id ON jobs (queue, id, seq);
CREATE UNIQUE INDEX jobs_uniq ON jobs (queue, id) WHERE uniq;

-- Ids of unique jobs that were promoted recently.
CREATE TABLE markers (
    queue text COLLATE "C", id bytea, expires_ms bigint NOT NULL, PRIMARY KEY (queue, id)
);
CREATE INDEX markers_expiry ON markers (queue, expires_ms);

CREATE TABLE locks (queue text COLLATE "C" PRIMARY KEY, holder bytea NOT NULL, expires_ms bigint NOT NULL);

-- Promoted jobs. Consumers use `free_ms` and `deliveries`: see consumer.py.
CREATE SEQUENCE stream_seq;
CREATE TABLE stream (
    seq bigint PRIMARY KEY DEFAULT nextval('stream_seq'), queue text COLLATE "C" NOT NULL, envelope bytea NOT NULL,
    name bytea NOT NULL, free_ms bigint NOT NULL DEFAULT 0, deliveries integer NOT NULL DEFAULT 0,
    trace bytea NOT NULL DEFAULT ''  -- as `pack_trace` writes it
);
CREATE INDEX stream_queue ON stream (queue, seq);

CREATE TABLE events (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, queue text COLLATE "C" NOT NULL, id bytea NOT NULL,
    name bytea NOT NULL, ms bigint NOT NULL, trace bytea NOT NULL DEFAULT ''
);
CREATE INDEX events_queue ON events (queue, seq);

CREATE TABLE members (team bytea, member bytea, expires_ms bigint NOT NULL, PRIMARY KEY (team, member));
