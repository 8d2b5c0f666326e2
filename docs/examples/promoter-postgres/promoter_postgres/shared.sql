-- Helpers of all other functions: the clock, notifications, and a queue's turn. The files of functions run again when a
-- schema is upgraded.

CREATE OR REPLACE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- Triggers notify of changes by any writer: `j` and the queue for jobs, `l` for a lock.
CREATE OR REPLACE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('promoter_' || TG_TABLE_SCHEMA, TG_ARGV[0] || coalesce(NEW.queue, OLD.queue));
    RETURN NULL;
END $$;

-- A lock without a holder only represents a turn: see take_turn.
CREATE OR REPLACE TRIGGER jobs_changed AFTER INSERT OR UPDATE OF due_ms ON jobs FOR EACH ROW EXECUTE FUNCTION tell('j');
CREATE OR REPLACE TRIGGER lock_released AFTER DELETE ON locks FOR EACH ROW WHEN (OLD.holder <> '')
    EXECUTE FUNCTION tell('l');

-- Until the end of the transaction, no other call promotes jobs of this queue or changes waiting ones. So the entries of
-- its stream are committed in the order of their numbers, without deadlocks. Calls take turns by locking the row of the
-- lock; a missing row is created temporarily. Returns the number of the first job.
CREATE OR REPLACE FUNCTION take_turn(q text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        INSERT INTO locks VALUES (q, '', 0) ON CONFLICT DO NOTHING;
        PERFORM FROM locks WHERE queue = q FOR UPDATE;
        EXIT WHEN FOUND;
    END LOOP;
    RETURN (SELECT seq FROM jobs WHERE queue = q ORDER BY due_ms, seq LIMIT 1);
END $$;

-- Notifies if another job is first now, or none.
CREATE OR REPLACE FUNCTION end_turn(q text, head bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM locks WHERE queue = q AND holder = '' AND expires_ms = 0;
    IF head IS DISTINCT FROM (SELECT seq FROM jobs WHERE queue = q ORDER BY due_ms, seq LIMIT 1) THEN
        PERFORM pg_notify('promoter_' || current_schema(), 'j' || q);
    END IF;
END $$;

-- Moves a job to the stream at `t`. From now on its id is taken for a while, or free.
CREATE OR REPLACE FUNCTION mark(job jobs, t bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF job.uniq AND job.keep_ms > 0 THEN
        INSERT INTO markers VALUES (job.queue, job.id, t + job.keep_ms)
            ON CONFLICT (queue, id) DO UPDATE SET expires_ms = excluded.expires_ms;
    ELSIF job.uniq THEN
        DELETE FROM markers WHERE queue = job.queue AND id = job.id;
    END IF;
END $$;
