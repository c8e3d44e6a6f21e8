-- One run at a time and app and worker, by locks that no exit path can leave behind: each transaction takes them at its
-- head, and its end gives them up. In the key space of two integers, since HotMesh uses the other.
--   (app, 0)       exclusive by a run alone, shared by workers
--   (app, worker)  exclusive by a worker
--   (app, -1)      exclusive by whoever begins a run

CREATE OR REPLACE FUNCTION hotmesh_dba._key_of(schema_oid oid) RETURNS int
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT hashtext('hotmesh_dba ' || schema_oid) & 2147483647 $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._lock_key(app_schema name) RETURNS int
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT hotmesh_dba._key_of(n.oid) FROM pg_namespace n WHERE n.nspname = app_schema $$;

-- Was the app renamed, or dropped? A run's locks hang on its schema's oid, whatever that is called.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_lost(app_schema name, schema_oid oid) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NOT EXISTS (SELECT FROM pg_namespace n WHERE n.oid = schema_oid AND n.nspname = app_schema)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._try_run_locks(app_schema name, worker int, workers int) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_key int := hotmesh_dba._lock_key(app_schema);
BEGIN
    IF workers = 1 THEN
        RETURN pg_try_advisory_xact_lock(v_key, 0);
    END IF;
    RETURN pg_try_advisory_xact_lock_shared(v_key, 0) AND pg_try_advisory_xact_lock(v_key, worker);
END
$$;

-- Between two batches somebody who begins a run may hold them, for a second at most, to see whether we are alive.
CREATE OR REPLACE FUNCTION hotmesh_dba._take_run_locks(run hotmesh_dba._run) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
DECLARE
    v_key int := hotmesh_dba._key_of((run).schema_oid);
BEGIN
    IF (run).workers = 1 THEN
        PERFORM pg_advisory_xact_lock(v_key, 0);
    ELSE
        PERFORM pg_advisory_xact_lock_shared(v_key, 0);
        PERFORM pg_advisory_xact_lock(v_key, (run).worker);
    END IF;
    IF NOT EXISTS (SELECT FROM hotmesh_dba.run r WHERE r.id = (run).id AND r.state = 'running') THEN
        PERFORM hotmesh_dba._raise_unrecorded(run);
    END IF;
END
$$;

-- Does this run's process hold one of its locks, or queue for one? A pid alone proves nothing: it is used again, and
-- comes back from a dump. Our own process at work on another run is no proof for the old one either, nor is one that
-- queues at (app, -1) to begin the next.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_alive(run hotmesh_dba.run) RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT run.state = 'running' AND run.pid <> pg_backend_pid() AND run.started_at >= pg_postmaster_start_time()
       AND EXISTS (SELECT FROM pg_locks l
                   WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.pid = run.pid
                     AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                     AND l.classid = hotmesh_dba._lock_key(run.app)::oid AND l.objid IN (0, run.worker::oid))
$$;

-- The app's runs that say `running` and are not, allowing for the moment between two batches in which one has no lock:
-- all of them are looked at for up to a second.
CREATE OR REPLACE FUNCTION hotmesh_dba._dead_runs(app_schema name) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_until timestamptz := clock_timestamp() + interval '1 second';
    v_ids   bigint[] := ARRAY(SELECT r.id FROM hotmesh_dba.run r WHERE r.app = app_schema AND r.state = 'running');
    v_runs  hotmesh_dba.run[];
BEGIN
    LOOP
        -- One that has ended meanwhile is neither.
        v_runs := ARRAY(SELECT r FROM hotmesh_dba.run r
                        WHERE r.id = ANY (v_ids) AND r.state = 'running' AND NOT hotmesh_dba._is_alive(r));
        v_ids := ARRAY(SELECT r.id FROM unnest(v_runs) r);
        EXIT WHEN clock_timestamp() >= v_until
               OR NOT EXISTS (SELECT FROM unnest(v_runs) r
                              WHERE r.pid <> pg_backend_pid() AND r.started_at >= pg_postmaster_start_time()
                                AND EXISTS (SELECT FROM pg_stat_get_activity(r.pid)));
        PERFORM pg_sleep(0.02);
    END LOOP;
    RETURN v_ids;
END
$$;

-- Who stands in the way of a run, as an error that names the holder.
CREATE OR REPLACE FUNCTION hotmesh_dba._raise_busy(app_schema name, worker int, detail text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_holder text;
    v_dead   bigint[] := hotmesh_dba._dead_runs(app_schema);
BEGIN
    SELECT string_agg(format('Run %s of role "%s" (process %s, worker %s of %s) has removed %s rows since %s.', r.id, r.role, r.pid,
                             r.worker, r.workers, hotmesh_dba._rows_done(r), date_trunc('second', r.started_at)), ' ')
    INTO v_holder
    FROM hotmesh_dba.run r
    WHERE r.app = app_schema AND r.state = 'running' AND r.id <> ALL (v_dead);
    RAISE EXCEPTION 'another run prunes app "%"', app_schema
        USING ERRCODE = 'lock_not_available',
              DETAIL = concat_ws(' ', detail, coalesce(v_holder, hotmesh_dba._run_lock_holders(app_schema))),
              HINT = 'Wait for it: SELECT * FROM hotmesh_dba.progress; or end it: SELECT pg_cancel_backend(pid).';
END
$$;

-- Processes that hold the app's run locks without a row that we can see.
CREATE OR REPLACE FUNCTION hotmesh_dba._run_lock_holders(app_schema name) RETURNS text
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'Its lock is held by process ' || coalesce(string_agg(DISTINCT l.pid::text, ', '), 'that has ended meanwhile') || '.'
    FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.pid <> pg_backend_pid() AND l.granted
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.classid = hotmesh_dba._lock_key(app_schema)::oid
$$;
