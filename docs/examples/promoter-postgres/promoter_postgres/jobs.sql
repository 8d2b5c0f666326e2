-- Schedule, move, run, remove and replace waiting jobs. Each function takes arrays of the same length and returns the
-- outcomes in the requested order, as values of `JobOutcome`.

CREATE OR REPLACE FUNCTION due_at(t bigint, due_ms bigint, delay_ms bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT least(greatest(coalesce(due_ms, t + delay_ms), t), 253402300799999) $$;

-- In the order of the ids, to avoid deadlocks. The overload with one argument less is version 1's.
CREATE OR REPLACE FUNCTION schedule(
    q text, ids bytea[], names bytea[], envelopes bytea[], dues bigint[], delays bigint[], uniqs boolean[],
    traces bytea[], keeps bigint[]
) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    t bigint := now_ms();
    j record;
    outcomes text[];
BEGIN
    FOR j IN
        SELECT * FROM (
            SELECT nextval('jobs_seq') AS seq, u.*
            FROM unnest(ids, names, envelopes, dues, delays, uniqs, traces, keeps) WITH ORDINALITY
                AS u (id, name, envelope, due_ms, delay_ms, uniq, trace, keep_ms, ord)
        ) numbered ORDER BY id, seq
    LOOP
        INSERT INTO jobs (seq, queue, id, name, envelope, due_ms, uniq, trace, keep_ms) VALUES
            (j.seq, q, j.id, j.name, j.envelope, due_at(t, j.due_ms, j.delay_ms), j.uniq, j.trace, j.keep_ms)
            ON CONFLICT (queue, id) WHERE uniq DO NOTHING;
        outcomes[j.ord] := CASE WHEN FOUND THEN 'created' ELSE 'kept' END;
        -- Only now, because it may have waited for a promotion of the same id.
        IF j.uniq AND FOUND AND EXISTS (SELECT FROM markers m WHERE m.queue = q AND m.id = j.id AND m.expires_ms > t) THEN
            DELETE FROM jobs WHERE seq = j.seq;
            outcomes[j.ord] := 'already-promoted';
        END IF;
    END LOOP;
    RETURN outcomes;
END $$;

-- A waiting job with this id: the one with this number or, without a number, the unique one or else the last.
CREATE OR REPLACE FUNCTION find_job(q text, wanted bytea, number bigint) RETURNS jobs LANGUAGE sql VOLATILE AS $$
    SELECT * FROM jobs WHERE queue = q AND id = wanted AND (number IS NULL OR seq = number)
    ORDER BY uniq DESC, seq DESC LIMIT 1 FOR UPDATE
$$;

-- The outcome if no such job waits.
CREATE OR REPLACE FUNCTION missing(q text, wanted bytea) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE
        WHEN EXISTS (SELECT FROM jobs WHERE queue = q AND id = wanted) THEN 'not-found'
        WHEN EXISTS (SELECT FROM markers WHERE queue = q AND id = wanted AND expires_ms > now_ms())
            THEN 'already-promoted'
        ELSE 'not-found'
    END
$$;

CREATE OR REPLACE FUNCTION move_jobs(q text, ids bytea[], numbers bigint[], dues bigint[], delays bigint[])
RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    head bigint := take_turn(q);
    t bigint := now_ms();
    a record;
    job jobs;
    outcomes text[];
BEGIN
    FOR a IN
        SELECT * FROM unnest(ids, numbers, dues, delays) WITH ORDINALITY AS u (id, number, due_ms, delay_ms, ord)
        ORDER BY ord
    LOOP
        job := find_job(q, a.id, a.number);
        outcomes[a.ord] := CASE WHEN job.seq IS NULL THEN missing(q, a.id) ELSE 'moved' END;
        UPDATE jobs SET due_ms = due_at(t, a.due_ms, a.delay_ms) WHERE seq = job.seq;
    END LOOP;
    PERFORM end_turn(q, head);
    RETURN outcomes;
END $$;

-- Counts the stream once, as a promotion does. A job that finds no room is due now.
CREATE OR REPLACE FUNCTION run_jobs_now(
    q text, ids bytea[], numbers bigint[], max_len bigint, emit boolean, max_events bigint
) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    head bigint := take_turn(q);
    t bigint := now_ms();
    room bigint := (SELECT max_len - count(*) FROM (SELECT FROM stream WHERE queue = q LIMIT max_len) s);
    a record;
    job jobs;
    outcomes text[];
BEGIN
    FOR a IN SELECT * FROM unnest(ids, numbers) WITH ORDINALITY AS u (id, number, ord) ORDER BY ord LOOP
        job := find_job(q, a.id, a.number);
        IF job.seq IS NULL THEN
            outcomes[a.ord] := missing(q, a.id);
        ELSIF room <= 0 THEN
            UPDATE jobs SET due_ms = least(due_ms, t) WHERE seq = job.seq;
            outcomes[a.ord] := 'moved';
        ELSE
            room := room - 1;
            INSERT INTO stream (queue, envelope, name, trace) VALUES (q, job.envelope, job.name, job.trace);
            IF emit THEN
                INSERT INTO events (queue, id, name, ms, trace) VALUES (q, job.id, job.name, t, job.trace);
            END IF;
            DELETE FROM jobs WHERE seq = job.seq;
            PERFORM mark(job, t);
            outcomes[a.ord] := 'promoted';
        END IF;
    END LOOP;
    IF emit AND 'promoted' = ANY (outcomes) THEN
        DELETE FROM events WHERE queue = q AND seq <=
            (SELECT seq FROM events WHERE queue = q ORDER BY seq DESC LIMIT 1 OFFSET max_events);
    END IF;
    PERFORM end_turn(q, head);
    RETURN outcomes;
END $$;

CREATE OR REPLACE FUNCTION remove_jobs(q text, ids bytea[], numbers bigint[]) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    head bigint := take_turn(q);
    a record;
    job jobs;
    outcomes text[];
BEGIN
    FOR a IN SELECT * FROM unnest(ids, numbers) WITH ORDINALITY AS u (id, number, ord) ORDER BY ord LOOP
        job := find_job(q, a.id, a.number);
        IF job.seq IS NULL THEN
            outcomes[a.ord] := missing(q, a.id);
        ELSE
            DELETE FROM jobs WHERE seq = job.seq;
            DELETE FROM markers WHERE queue = q AND id = a.id;
            outcomes[a.ord] := 'removed';
        END IF;
    END LOOP;
    PERFORM end_turn(q, head);
    RETURN outcomes;
END $$;

-- In the order of the ids, as in `schedule`, because both lock jobs by id.
CREATE OR REPLACE FUNCTION replace_jobs(
    q text, ids bytea[], names bytea[], envelopes bytea[], dues bigint[], delays bigint[], uniqs boolean[],
    traces bytea[], keeps bigint[], keep_datas boolean[], keep_names boolean[], keep_dues boolean[]
) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    head bigint := take_turn(q);
    t bigint := now_ms();
    r record;
    job jobs;
    outcomes text[];
BEGIN
    FOR r IN
        SELECT * FROM (
            SELECT nextval('jobs_seq') AS seq, u.*
            FROM unnest(
                ids, names, envelopes, dues, delays, uniqs, traces, keeps, keep_datas, keep_names, keep_dues
            ) WITH ORDINALITY AS u (
                id, name, envelope, due_ms, delay_ms, uniq, trace, keep_ms, keep_data, keep_name, keep_due, ord
            )
        ) numbered ORDER BY id, seq
    LOOP
        job := NULL;
        LOOP
            IF job.seq IS NULL THEN
                job := find_job(q, r.id, NULL);
            END IF;
            IF job.seq IS NULL AND r.keep_due THEN
                outcomes[r.ord] := missing(q, r.id);
                EXIT;
            ELSIF job.seq IS NOT NULL AND r.keep_data THEN
                UPDATE jobs SET due_ms = due_at(t, r.due_ms, r.delay_ms) WHERE seq = job.seq AND NOT r.keep_due;
                outcomes[r.ord] := 'moved';
                EXIT;
            ELSIF job.seq IS NOT NULL THEN
                DELETE FROM jobs WHERE seq = job.seq;
                DELETE FROM markers WHERE queue = q AND id = r.id;
            END IF;
            INSERT INTO jobs (seq, queue, id, name, envelope, due_ms, uniq, trace, keep_ms) VALUES (
                r.seq, q, r.id, CASE WHEN r.keep_name AND job.seq IS NOT NULL THEN job.name ELSE r.name END, r.envelope,
                CASE WHEN r.keep_due THEN job.due_ms ELSE due_at(t, r.due_ms, r.delay_ms) END, r.uniq, r.trace, r.keep_ms
            ) ON CONFLICT (queue, id) WHERE uniq DO NOTHING;
            outcomes[r.ord] := CASE WHEN job.seq IS NULL THEN 'created' ELSE 'replaced' END;
            EXIT WHEN FOUND;  -- otherwise a unique job with this id has just been scheduled: try again
        END LOOP;
    END LOOP;
    PERFORM end_turn(q, head);
    RETURN outcomes;
END $$;
