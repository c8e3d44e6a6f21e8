-- A batch that meets a lock gives way (its subtransaction sets free what it had locked) and tries again a few
-- times; then the whole call fails, and nothing is half done. So does one that meets a full lock table, for others
-- may have taken their room at the same instant; but a strip tries with less and less, and then only stops.
CREATE OR REPLACE FUNCTION hotmesh_dba._run_batch_patiently(app_schema name, lane hotmesh_dba._lane, max_rows bigint)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_bound bigint := max_rows;
BEGIN
    FOR v_try IN 1 .. 5 LOOP
        BEGIN
            RETURN hotmesh_dba._run_batch(lane, v_bound, true);
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN
                lane.careful := true;
                PERFORM pg_sleep(v_try * 0.02);
            WHEN out_of_memory THEN
                IF ((lane).step).name <> 'strip' AND v_try = 5 THEN
                    RAISE;
                END IF;
                PERFORM pg_sleep(0.5);
                IF ((lane).step).name = 'strip' THEN
                    v_bound := least(v_bound / 4, hotmesh_dba._lock_room());
                    IF v_bound = 0 OR v_try = 5 THEN
                        RETURN ROW(0, 0, 0, '{}'::text[], NULL, lane)::hotmesh_dba._outcome;
                    END IF;
                END IF;
        END;
    END LOOP;
    PERFORM hotmesh_dba._raise_locked(app_schema, 'prune');
END
$$;

-- How many rows the next batch may take. Only the mark of the strip takes locks that pile up, and only by its trigger.
CREATE OR REPLACE FUNCTION hotmesh_dba._batch_bound(lane hotmesh_dba._lane, workers int DEFAULT 1) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN (lane.step).name = 'strip' AND NOT lane.triggers_off THEN hotmesh_dba._lock_room() / workers END
$$;

-- What is left to strip. Where the lock table is full, those who filled it are giving way as well: a count
-- must not fail the call that stopped for it.
CREATE OR REPLACE FUNCTION hotmesh_dba._count_remaining(step hotmesh_dba._step) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    FOR v_try IN 1 .. 10 LOOP
        BEGIN
            RETURN hotmesh_dba._count_due(step, NULL);
        EXCEPTION WHEN out_of_memory THEN
            IF v_try = 10 THEN
                RAISE;
            END IF;
            PERFORM pg_sleep(0.2);
        END;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._warn_of_remaining(app_schema name, remaining bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE WARNING '% finished jobs of app "%" are left to strip', remaining, app_schema
        USING DETAIL = 'Marking a live job takes a lock that lasts to the end of the transaction, and the server''s lock table holds no more safely.',
              HINT = 'Call prune again in a new transaction, until nothing is left; or raise max_locks_per_transaction.';
END
$$;

-- Every step to its end, in the caller's transaction.
-- Called by the wrappers of all apps by its identity: only ever replaced, its signature is fixed.
CREATE OR REPLACE FUNCTION hotmesh_dba.prune(
    app_id                   text,
    retention                interval DEFAULT '7 days',
    prune_jobs               boolean  DEFAULT true,
    prune_streams            boolean  DEFAULT true,
    strip_attributes         boolean  DEFAULT false,
    entity_list              text[]   DEFAULT NULL,
    prune_transient          boolean  DEFAULT false,
    keep_hmark               boolean  DEFAULT false,
    prune_engine_streams     boolean  DEFAULT NULL,
    prune_worker_streams     boolean  DEFAULT NULL,
    engine_streams_retention interval DEFAULT NULL,
    worker_streams_retention interval DEFAULT NULL,
    prune_signals            boolean  DEFAULT true)
RETURNS TABLE (
    deleted_jobs           bigint,
    deleted_streams        bigint,
    deleted_engine_streams bigint,
    deleted_worker_streams bigint,
    stripped_attributes    bigint,
    deleted_transient      bigint,
    marked_pruned          bigint,
    deleted_signals        bigint,
    remaining              bigint)
LANGUAGE plpgsql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_options hotmesh_dba._options;
    v_counts  hotmesh_dba._counts := (0, 0, 0, 0, 0, 0, 0, 0);
    v_steps   hotmesh_dba._step[];
    v_step    hotmesh_dba._step;
    v_lanes   hotmesh_dba._lane[];
    v_lane    hotmesh_dba._lane;
    v_bound   bigint;
    v_outcome hotmesh_dba._outcome;
BEGIN
    remaining := 0;
    PERFORM hotmesh_dba._check_writable();
    v_options := hotmesh_dba._resolve(
        app_id, retention, prune_jobs, prune_streams, strip_attributes, entity_list, prune_transient, keep_hmark,
        prune_engine_streams, prune_worker_streams, engine_streams_retention, worker_streams_retention, prune_signals);
    v_steps := ARRAY(SELECT s FROM hotmesh_dba._steps(v_options) s);
    PERFORM hotmesh_dba._check_steps(v_steps, v_options.disable_triggers);

    FOREACH v_step IN ARRAY v_steps LOOP
        v_lanes := CASE WHEN hotmesh_dba._is_due(v_step)
                        THEN ARRAY(SELECT l FROM hotmesh_dba._lanes(v_step, v_options.disable_triggers) l) ELSE '{}' END;
        FOREACH v_lane IN ARRAY v_lanes LOOP
            LOOP
                v_bound := hotmesh_dba._batch_bound(v_lane);
                EXIT WHEN v_bound = 0;
                v_outcome := hotmesh_dba._run_batch_patiently(v_options.app_schema, v_lane, v_bound);
                v_counts := hotmesh_dba._add(v_counts, v_step.name, v_outcome.taken, v_outcome.attributes);
                v_lane := v_outcome.lane;
                v_bound := CASE WHEN v_outcome.finished IS NULL THEN 0 ELSE v_bound END;
                EXIT WHEN v_outcome.finished OR v_bound = 0;
            END LOOP;
            EXIT WHEN v_bound = 0;
        END LOOP;
        IF v_step.name = 'strip' THEN
            remaining := hotmesh_dba._count_remaining(v_step);
            IF v_bound = 0 AND remaining > 0 THEN
                PERFORM hotmesh_dba._warn_of_remaining(v_options.app_schema, remaining);
            END IF;
        END IF;
    END LOOP;

    RETURN QUERY SELECT v_counts.*, remaining;
END
$$;

COMMENT ON FUNCTION hotmesh_dba.prune(text, interval, boolean, boolean, boolean, text[], boolean, boolean, boolean, boolean, interval, interval, boolean) IS
'Removes an app''s finished work in the caller''s transaction, and returns one row of counts.
app_id: the app (see view hotmesh_dba.app).
retention (7 days): jobs and messages go when they expired longer ago than this; not NULL, not negative.
prune_jobs (true): delete expired jobs, their attributes with them; only those of entity_list where one is given.
prune_streams (true): delete expired messages; prune_engine_streams, prune_worker_streams (NULL: as prune_streams) say it per kind.
strip_attributes (false): remove the execution artifacts of completed live jobs, whatever their age; jdata, udata and jmark stay, hmark too with keep_hmark (false). Needs READ COMMITTED.
entity_list (NULL: every job): entities that jobs and strip are restricted to.
prune_transient (false): delete expired jobs that have no entity, whatever entity_list says.
engine_streams_retention, worker_streams_retention (NULL: as retention): a window for each kind of message.
prune_signals (true): delete signals whose expiry has come.
remaining: completed jobs still due for stripping; one transaction strips as many as the lock table safely holds, and warns.
Errors: 22023 22004 42602 3F000 42809 bad input; 25001 25006 wrong transaction; 42501 missing privilege; 55000 not deployed; 55P03 locked.';
