-- The leader lock; the names of queues, and the members of a group.

-- `other` is null if we hold the lock now.
CREATE OR REPLACE FUNCTION take_lock(
    q text, me bytea, ttl_ms bigint, OUT other bytea, OUT left_ms bigint, OUT lag_ms bigint
) LANGUAGE plpgsql AS $$
DECLARE
    t bigint;
    ends_ms bigint;
BEGIN
    SELECT holder, expires_ms INTO other, ends_ms FROM locks WHERE queue = q;
    t := now_ms();
    IF other IS NULL OR other = me OR ends_ms <= t THEN  -- otherwise return at once: never wait for a working leader
        LOOP
            INSERT INTO locks VALUES (q, me, 0) ON CONFLICT DO NOTHING;
            SELECT holder, expires_ms INTO other, ends_ms FROM locks WHERE queue = q FOR UPDATE;
            EXIT WHEN FOUND;
        END LOOP;
        t := now_ms();  -- after locking the row: the wait for it may have been long
        IF other = me OR ends_ms <= t THEN
            UPDATE locks SET holder = me, expires_ms = t + ttl_ms WHERE queue = q;
            other := NULL;
            RETURN;
        END IF;
    END IF;
    left_ms := ends_ms - t;
    lag_ms := (SELECT greatest(t - min(due_ms), 0) FROM jobs WHERE queue = q);
END $$;

-- In the order of the names, to avoid deadlocks.
CREATE OR REPLACE FUNCTION take_locks(queues text[], me bytea, ttl_ms bigint)
RETURNS TABLE (ord bigint, other bytea, left_ms bigint, lag_ms bigint) LANGUAGE plpgsql AS $$
DECLARE
    q text;
BEGIN
    FOR ord, q IN SELECT u.ord, u.q FROM unnest(queues) WITH ORDINALITY AS u (q, ord) ORDER BY u.q COLLATE "C" LOOP
        SELECT * INTO other, left_ms, lag_ms FROM take_lock(q, me, ttl_ms);
        RETURN NEXT;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION release_lock(q text, me bytea) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM locks WHERE queue = q AND holder = me AND expires_ms > now_ms();
    RETURN FOUND;
END $$;

-- A row for each lease that the holder has.
CREATE OR REPLACE FUNCTION renew_locks(queues text[], holders bytea[], ttls_ms bigint[])
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

-- The names after one, in order, and the last of them; null at the end.
CREATE OR REPLACE FUNCTION queues_after(after text, most integer) RETURNS text[] LANGUAGE sql AS $$
    WITH RECURSIVE named AS (  -- one index step for each name, however many jobs it has
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

CREATE OR REPLACE FUNCTION join_team(asked bytea, me bytea, ttl_ms bigint, OUT everybody bytea[], OUT next_ms bigint)
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

CREATE OR REPLACE FUNCTION leave_team(asked bytea, me bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM members WHERE team = asked AND member = me;
    IF FOUND THEN
        PERFORM pg_notify('promoter_' || current_schema(), 'm');
    END IF;
END $$;
