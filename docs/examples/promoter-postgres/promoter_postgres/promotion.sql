-- Move due jobs to the stream.

-- Returns no row if the lease is lost. Locks the row of the lock, which is the queue's turn: see take_turn.
CREATE OR REPLACE FUNCTION promote(
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
    WITH due AS (  -- skips rows that another program has locked
        SELECT seq FROM jobs WHERE queue = q AND due_ms <= t ORDER BY due_ms, seq LIMIT room FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM jobs USING due WHERE jobs.seq = due.seq RETURNING jobs.*
    ), job AS MATERIALIZED (
        SELECT g.*, nextval('stream_seq') AS entry FROM (SELECT * FROM gone ORDER BY due_ms, seq) g
    ), added AS (
        INSERT INTO stream (seq, queue, envelope, name, trace) SELECT entry, q, envelope, name, trace FROM job
    ), told AS (
        INSERT INTO events (queue, id, name, ms, trace) SELECT q, id, name, t, trace FROM job WHERE emit ORDER BY entry
    ), marked AS (
        INSERT INTO markers SELECT q, id, t + keep_ms FROM job WHERE uniq AND keep_ms > 0
        ON CONFLICT (queue, id) DO UPDATE SET expires_ms = excluded.expires_ms
    ), freed AS (
        DELETE FROM markers m USING job WHERE job.uniq AND job.keep_ms = 0 AND m.queue = q AND m.id = job.id
    )
    SELECT count(*), array_agg(due_ms ORDER BY entry),
        array_agg(id ORDER BY entry) FILTER (WHERE want_jobs OR want_traces),
        array_agg(name ORDER BY entry) FILTER (WHERE want_jobs),
        array_agg(entry ORDER BY entry) FILTER (WHERE want_jobs),
        array_agg(trace ORDER BY entry) FILTER (WHERE want_jobs OR want_traces)
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

-- Promotes each queue separately: an error, with its code and message, undoes only that queue's promotion. `t` is null if
-- the lease is lost. In the order of the names, as in take_locks.
CREATE OR REPLACE FUNCTION promote_all(
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
