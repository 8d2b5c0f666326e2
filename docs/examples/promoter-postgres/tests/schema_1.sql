-- The tables of one schema, and a function for each method of the backend: a call is one statement, in a transaction of
-- its own. `search_path` is the schema. Text that may hold any bytes is bytea; times are milliseconds by `now_ms()`.

CREATE SEQUENCE jobs_seq;
CREATE TABLE jobs (
    seq bigint PRIMARY KEY DEFAULT nextval('jobs_seq'), queue text COLLATE "C" NOT NULL, id bytea NOT NULL,
    name bytea NOT NULL DEFAULT '', envelope bytea NOT NULL, due_ms bigint NOT NULL CHECK (due_ms <= 253402300799999),
    uniq boolean NOT NULL DEFAULT false, trace bytea NOT NULL DEFAULT ''
);
CREATE INDEX jobs_due ON jobs (queue, due_ms, seq);
CREATE INDEX jobs_id ON jobs (queue, id, seq);
CREATE UNIQUE INDEX jobs_uniq ON jobs (queue, id) WHERE uniq;

-- Ids of unique jobs that were promoted lately.
CREATE TABLE markers (
    queue text COLLATE "C", id bytea, expires_ms bigint NOT NULL, PRIMARY KEY (queue, id)
);
CREATE INDEX markers_expiry ON markers (queue, expires_ms);

CREATE TABLE locks (queue text COLLATE "C" PRIMARY KEY, holder bytea NOT NULL, expires_ms bigint NOT NULL);

-- Promoted jobs. `free_ms` and `deliveries` are the consumers': see consumer.py.
CREATE SEQUENCE stream_seq;
CREATE TABLE stream (
    seq bigint PRIMARY KEY DEFAULT nextval('stream_seq'), queue text COLLATE "C" NOT NULL, envelope bytea NOT NULL,
    name bytea NOT NULL, free_ms bigint NOT NULL DEFAULT 0, deliveries integer NOT NULL DEFAULT 0
);
CREATE INDEX stream_queue ON stream (queue, seq);

CREATE TABLE events (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, queue text COLLATE "C" NOT NULL, id bytea NOT NULL,
    name bytea NOT NULL, ms bigint NOT NULL
);
CREATE INDEX events_queue ON events (queue, seq);

CREATE TABLE members (team bytea, member bytea, expires_ms bigint NOT NULL, PRIMARY KEY (team, member));

CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- Changes are told by triggers, so that those of any writer are heard: `j` and the queue for jobs, `l` for a lock.
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('promoter_' || TG_TABLE_SCHEMA, TG_ARGV[0] || coalesce(NEW.queue, OLD.queue));
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_changed AFTER INSERT OR UPDATE OF due_ms ON jobs FOR EACH ROW EXECUTE FUNCTION tell('j');
CREATE TRIGGER lock_released AFTER DELETE ON locks FOR EACH ROW EXECUTE FUNCTION tell('l');

-- `other` is null when the lock is ours now.
CREATE FUNCTION take_lock(q text, me bytea, ttl_ms bigint, OUT other bytea, OUT left_ms bigint, OUT lag_ms bigint)
LANGUAGE plpgsql AS $$
DECLARE
    t bigint;
    ends_ms bigint;
BEGIN
    SELECT holder, expires_ms INTO other, ends_ms FROM locks WHERE queue = q;
    t := now_ms();
    IF other IS NULL OR other = me OR ends_ms <= t THEN  -- otherwise nobody waits for a leader at work
        LOOP
            INSERT INTO locks VALUES (q, me, 0) ON CONFLICT DO NOTHING;
            SELECT holder, expires_ms INTO other, ends_ms FROM locks WHERE queue = q FOR UPDATE;
            EXIT WHEN FOUND;
        END LOOP;
        t := now_ms();  -- after the row is ours: the wait for it may have been long
        IF other = me OR ends_ms <= t THEN
            UPDATE locks SET holder = me, expires_ms = t + ttl_ms WHERE queue = q;
            other := NULL;
            RETURN;
        END IF;
    END IF;
    left_ms := ends_ms - t;
    lag_ms := (SELECT greatest(t - min(due_ms), 0) FROM jobs WHERE queue = q);
END $$;

-- In the order of the names, so that no two calls wait for each other.
CREATE FUNCTION take_locks(queues text[], me bytea, ttl_ms bigint)
RETURNS TABLE (ord bigint, other bytea, left_ms bigint, lag_ms bigint) LANGUAGE plpgsql AS $$
DECLARE
    q text;
BEGIN
    FOR ord, q IN SELECT u.ord, u.q FROM unnest(queues) WITH ORDINALITY AS u (q, ord) ORDER BY u.q COLLATE "C" LOOP
        SELECT * INTO other, left_ms, lag_ms FROM take_lock(q, me, ttl_ms);
        RETURN NEXT;
    END LOOP;
END $$;

CREATE FUNCTION release_lock(q text, me bytea) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM locks WHERE queue = q AND holder = me AND expires_ms > now_ms();
    RETURN FOUND;
END $$;

-- A row for each lease that is the holder's.
CREATE FUNCTION renew_locks(queues text[], holders bytea[], ttls_ms bigint[])
RETURNS TABLE (ord bigint, t bigint, next_ms bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM locks JOIN unnest(queues, holders) AS u (q, me) ON queue = q AND holder = me
        ORDER BY queue FOR UPDATE OF locks;
    t := now_ms();
    FOR ord IN
        UPDATE locks SET expires_ms = t + u.ttl_ms
        FROM unnest(queues, holders, ttls_ms) WITH ORDINALITY AS u (q, me, ttl_ms, ord)
        WHERE queue = u.q AND holder = u.me AND expires_ms > t RETURNING u.ord
    LOOP
        next_ms := (SELECT min(due_ms) FROM jobs WHERE queue = queues[ord]);
        RETURN NEXT;
    END LOOP;
END $$;

-- No row when the lease is lost. Whoever holds the row of the lock is the only one to add to the queue's stream: so its
-- entries are committed in the order of their numbers.
CREATE FUNCTION promote(
    q text, me bytea, ttl_ms bigint, most bigint, max_len bigint, hold boolean, emit boolean, max_events bigint,
    renew boolean, want_jobs boolean, want_traces boolean
) RETURNS TABLE (
    t bigint, moved bigint, depth bigint, next_ms bigint, held_back bigint, dues bigint[], ids bytea[], names bytea[],
    entries bigint[], traces bytea[], work_ms float
) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
    ends_ms bigint;
    room bigint := most;
BEGIN
    SELECT expires_ms INTO ends_ms FROM locks WHERE queue = q AND holder = me FOR UPDATE;
    t := now_ms();
    began := clock_timestamp();
    IF ends_ms IS NULL OR ends_ms <= t THEN
        RETURN;
    END IF;
    IF renew THEN
        UPDATE locks SET expires_ms = t + ttl_ms WHERE queue = q;
    END IF;
    IF hold THEN
        room := (SELECT least(most, max_len - count(*)) FROM (SELECT FROM stream WHERE queue = q LIMIT max_len) s);
    END IF;
    DELETE FROM markers WHERE queue = q AND expires_ms <= t;
    WITH due AS (  -- a job that is being cancelled is nobody's to wait for
        SELECT seq FROM jobs WHERE queue = q AND due_ms <= t ORDER BY due_ms, seq LIMIT room FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM jobs USING due WHERE jobs.seq = due.seq RETURNING jobs.*
    ), job AS MATERIALIZED (
        SELECT g.*, nextval('stream_seq') AS entry FROM (SELECT * FROM gone ORDER BY due_ms, seq) g
    ), added AS (
        INSERT INTO stream (seq, queue, envelope, name) SELECT entry, q, envelope, name FROM job
    ), told AS (
        INSERT INTO events (queue, id, name, ms) SELECT q, id, name, t FROM job WHERE emit ORDER BY entry
    ), marked AS (
        INSERT INTO markers SELECT q, id, t + 3600000 FROM job WHERE uniq
        ON CONFLICT (queue, id) DO UPDATE SET expires_ms = excluded.expires_ms
    )
    SELECT count(*), array_agg(due_ms ORDER BY entry),
        array_agg(id ORDER BY entry) FILTER (WHERE want_jobs), array_agg(name ORDER BY entry) FILTER (WHERE want_jobs),
        array_agg(entry ORDER BY entry) FILTER (WHERE want_jobs),
        array_agg(trace ORDER BY entry) FILTER (WHERE want_traces AND trace <> '')
    INTO moved, dues, ids, names, entries, traces FROM job;
    IF NOT hold THEN
        DELETE FROM stream WHERE queue = q AND seq <=
            (SELECT seq FROM stream WHERE queue = q ORDER BY seq DESC LIMIT 1 OFFSET max_len);
    END IF;
    IF emit AND moved > 0 THEN
        DELETE FROM events WHERE queue = q AND seq <=
            (SELECT seq FROM events WHERE queue = q ORDER BY seq DESC LIMIT 1 OFFSET max_events);
    END IF;
    SELECT count(*), min(due_ms) INTO depth, next_ms FROM jobs WHERE queue = q;
    held_back := 0;
    IF room < most THEN
        held_back := (SELECT count(*) FROM jobs WHERE queue = q AND due_ms <= t);
    END IF;
    work_ms := extract(epoch FROM clock_timestamp() - began) * 1000;
    RETURN NEXT;
END $$;

-- Each for itself: an error, with its code and its message, undoes the promotion of that queue alone. `t` is null where the
-- lease is lost. In the order of the names, as in take_locks.
CREATE FUNCTION promote_all(
    queues text[], holders bytea[], ttls_ms bigint[], mosts bigint[], max_lens bigint[], holds boolean[], emits boolean[],
    max_events bigint[], renews boolean[], want_jobs boolean[], want_traces boolean[]
) RETURNS TABLE (
    ord bigint, code text, message text, t bigint, moved bigint, depth bigint, next_ms bigint, held_back bigint,
    dues bigint[], ids bytea[], names bytea[], entries bigint[], traces bytea[], work_ms float
) LANGUAGE plpgsql AS $$
DECLARE
    a record;
BEGIN
    FOR a IN
        SELECT * FROM unnest(
            queues, holders, ttls_ms, mosts, max_lens, holds, emits, max_events, renews, want_jobs, want_traces
        ) WITH ORDINALITY
        AS u (queue, holder, ttl_ms, most, max_len, hold, emit, max_events, renew, want_jobs, want_traces, ord)
        ORDER BY u.queue COLLATE "C"
    LOOP
        ord := a.ord;
        code := NULL;
        t := NULL;
        BEGIN
            SELECT * INTO t, moved, depth, next_ms, held_back, dues, ids, names, entries, traces, work_ms FROM promote(
                a.queue, a.holder, a.ttl_ms, a.most, a.max_len, a.hold, a.emit, a.max_events, a.renew, a.want_jobs,
                a.want_traces
            );
        EXCEPTION WHEN OTHERS THEN
            code := SQLSTATE;
            message := SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
END $$;

-- Whether each job was created. In the order of the ids, so that no two calls wait for each other.
CREATE FUNCTION schedule(
    q text, ids bytea[], names bytea[], envelopes bytea[], dues bigint[], delays bigint[], uniqs boolean[], traces bytea[]
) RETURNS boolean[] LANGUAGE plpgsql AS $$
DECLARE
    t bigint := now_ms();
    j record;
    created boolean[];
BEGIN
    FOR j IN
        SELECT * FROM (
            SELECT nextval('jobs_seq') AS seq, u.*
            FROM unnest(ids, names, envelopes, dues, delays, uniqs, traces) WITH ORDINALITY
                AS u (id, name, envelope, due_ms, delay_ms, uniq, trace, ord)
        ) numbered ORDER BY id, seq
    LOOP
        INSERT INTO jobs VALUES (
            j.seq, q, j.id, j.name, j.envelope, least(greatest(coalesce(j.due_ms, t + j.delay_ms), t), 253402300799999),
            j.uniq, j.trace
        ) ON CONFLICT (queue, id) WHERE uniq DO NOTHING;
        created[j.ord] := FOUND;
        -- Only now: it may have had to wait for a promotion of the same id.
        IF j.uniq AND FOUND AND EXISTS (SELECT FROM markers m WHERE m.queue = q AND m.id = j.id AND m.expires_ms > t) THEN
            DELETE FROM jobs WHERE seq = j.seq;
            created[j.ord] := false;
        END IF;
    END LOOP;
    RETURN created;
END $$;

-- Whether each id was there.
CREATE FUNCTION cancel(q text, asked bytea[]) RETURNS boolean[] LANGUAGE plpgsql AS $$
DECLARE
    a record;
    removed boolean[];
BEGIN
    FOR a IN SELECT * FROM unnest(asked) WITH ORDINALITY AS u (id, ord) ORDER BY u.id LOOP
        DELETE FROM jobs WHERE seq =
            (SELECT seq FROM jobs j WHERE j.queue = q AND j.id = a.id ORDER BY seq DESC LIMIT 1 FOR UPDATE);
        removed[a.ord] := FOUND;
    END LOOP;
    RETURN removed;
END $$;

-- The names after one, in order, and their last; null when there are no more.
CREATE FUNCTION queues_after(after text, most integer) RETURNS text[] LANGUAGE sql AS $$
    WITH RECURSIVE named AS (  -- a step through the index for each name, however many jobs it has
        (SELECT queue, 1 AS n FROM jobs WHERE queue > after COLLATE "C" ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (SELECT j.queue FROM jobs j WHERE j.queue > named.queue ORDER BY j.queue LIMIT 1), n + 1
        FROM named WHERE queue IS NOT NULL AND n < most
    ), led AS (
        SELECT queue FROM locks WHERE queue > after COLLATE "C" AND expires_ms > now_ms() ORDER BY queue LIMIT most
    ), found AS (
        SELECT queue FROM (SELECT queue FROM named UNION SELECT queue FROM led) b
        WHERE queue IS NOT NULL ORDER BY queue LIMIT most
    )
    SELECT array_agg(queue ORDER BY queue) FROM found
$$;

CREATE FUNCTION join_team(asked bytea, me bytea, ttl_ms bigint, OUT everybody bytea[], OUT next_ms bigint)
LANGUAGE plpgsql AS $$
DECLARE
    t bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('promoter ' || current_schema() || encode(asked, 'hex'), 0));
    t := now_ms();
    DELETE FROM members WHERE team = asked AND expires_ms <= t;
    IF NOT EXISTS (SELECT FROM members WHERE team = asked AND member = me) THEN
        PERFORM pg_notify('promoter_' || current_schema(), 'm');
    END IF;
    INSERT INTO members VALUES (asked, me, t + ttl_ms)
        ON CONFLICT (team, member) DO UPDATE SET expires_ms = excluded.expires_ms;
    SELECT array_agg(member), min(expires_ms) FILTER (WHERE member <> me) - t INTO everybody, next_ms
        FROM members WHERE team = asked;
END $$;

CREATE FUNCTION leave_team(asked bytea, me bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM members WHERE team = asked AND member = me;
    IF FOUND THEN
        PERFORM pg_notify('promoter_' || current_schema(), 'm');
    END IF;
END $$;
