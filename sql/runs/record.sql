-- What a run writes down: a row of hotmesh_dba.run, updated with every batch.

-- Whoever may prune an app can write any nonsense into the records of its runs: what is worked out of them never fails.
CREATE OR REPLACE FUNCTION hotmesh_dba._as_count(number numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT least(greatest(number, 0), 9223372036854775807)::bigint $$;

-- Jobs, messages and signals deleted and jobs stripped; attributes do not count.
CREATE OR REPLACE FUNCTION hotmesh_dba._rows_done(run hotmesh_dba.run) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT hotmesh_dba._as_count(run.deleted_jobs::numeric + run.deleted_transient + run.deleted_engine_streams
                                 + run.deleted_worker_streams + run.deleted_signals + run.marked_pruned)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._rows_left(run hotmesh_dba.run) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT hotmesh_dba._as_count(run.expected::numeric - hotmesh_dba._rows_done(run)) $$;

-- Rows a second since it began; NULL where that cannot be told.
CREATE OR REPLACE FUNCTION hotmesh_dba._rate(run hotmesh_dba.run) RETURNS float8
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN run.started_at > 'epoch' AND run.updated_at > run.started_at AND run.updated_at < '9999-01-01 UTC'
                THEN hotmesh_dba._rows_done(run) / date_part('epoch', run.updated_at - run.started_at) END
$$;

-- Before a run adds its row. Runs of this app whose process is gone are closed; what they had committed stays. Old
-- records go: a table that only grows would be the very thing we are here against.
CREATE OR REPLACE FUNCTION hotmesh_dba._tidy_runs(app_schema name) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_dead bigint[] := hotmesh_dba._dead_runs(app_schema);
BEGIN
    UPDATE hotmesh_dba.run r
    SET state = 'interrupted', finished_at = r.updated_at, remaining = hotmesh_dba._rows_left(r)
    WHERE r.id = ANY (v_dead) AND r.state = 'running';

    DELETE FROM hotmesh_dba.run r
    WHERE r.app = app_schema AND r.state <> 'running'
      AND (r.started_at < now() - interval '90 days'
           OR r.id < (SELECT k.id FROM hotmesh_dba.run k WHERE k.app = app_schema ORDER BY k.id DESC OFFSET 998 LIMIT 1))
      -- A policy that is seldom run is due from its last one on.
      AND r.id <> ALL (ARRAY(SELECT max(p.id) FROM hotmesh_dba.run p
                             WHERE p.app = app_schema AND p.policy IS NOT NULL GROUP BY p.policy));
END
$$;

-- A run that does not find its record: its role has lost the right to see it, or somebody has ended it.
CREATE OR REPLACE FUNCTION hotmesh_dba._raise_unrecorded(run hotmesh_dba._run) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_jobs regclass := hotmesh_dba._jobs((run).app);
BEGIN
    IF v_jobs IS NOT NULL AND NOT hotmesh_dba._may_prune((run).app) THEN
        PERFORM hotmesh_dba._check_privilege(v_jobs, 'DELETE');
    END IF;
    RAISE EXCEPTION 'run % of app "%" was ended by somebody else', (run).id, (run).app
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = 'Its row in hotmesh_dba.run says that it is over, or is gone.',
              HINT = format('SELECT * FROM hotmesh_dba.run WHERE id = %s;', (run).id);
END
$$;

-- In the batch's transaction: what cannot be recorded is not done.
CREATE OR REPLACE FUNCTION hotmesh_dba._record_batch(
    run hotmesh_dba._run, step_name text, outcome hotmesh_dba._outcome, elapsed interval) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_counts hotmesh_dba._counts := hotmesh_dba._add((0, 0, 0, 0, 0, 0, 0, 0), step_name, outcome.taken, outcome.attributes);
BEGIN
    UPDATE hotmesh_dba.run r
    SET updated_at = clock_timestamp(),
        batches = r.batches + 1,
        longest_batch = greatest(r.longest_batch, elapsed),
        deleted_jobs = r.deleted_jobs + v_counts.deleted_jobs,
        deleted_transient = r.deleted_transient + v_counts.deleted_transient,
        deleted_engine_streams = r.deleted_engine_streams + v_counts.deleted_engine_streams,
        deleted_worker_streams = r.deleted_worker_streams + v_counts.deleted_worker_streams,
        deleted_signals = r.deleted_signals + v_counts.deleted_signals,
        marked_pruned = r.marked_pruned + v_counts.marked_pruned,
        stripped_attributes = r.stripped_attributes + v_counts.stripped_attributes,
        cascaded_attributes = r.cascaded_attributes + outcome.cascaded,
        skipped = r.skipped + cardinality(outcome.skipped)
    WHERE r.id = (run).id;
    IF NOT FOUND THEN
        PERFORM hotmesh_dba._raise_unrecorded(run);
    END IF;
END
$$;

-- Ends a run: `failed` where anything failed, `stopped` where something due is left, else `completed`.
CREATE OR REPLACE FUNCTION hotmesh_dba._end_run(run hotmesh_dba._run, reason text) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    run.ended := true;
    run.stop_reason := reason;
    run.remaining := hotmesh_dba._remaining(run);
    UPDATE hotmesh_dba.run r
    SET state = CASE WHEN (run).sqlstate IS NOT NULL THEN 'failed' WHEN reason IS NOT NULL THEN 'stopped' ELSE 'completed' END,
        stop_reason = reason,
        updated_at = clock_timestamp(),
        finished_at = clock_timestamp(),
        remaining = (run).remaining,
        error_sqlstate = (run).sqlstate,
        error_message = (run).message,
        error_detail = (run).detail
    WHERE r.id = (run).id;
    RETURN run;
END
$$;

-- NULL before they are planned. Of lanes that are not finished what their probes estimated and nobody took, and what others had locked.
CREATE OR REPLACE FUNCTION hotmesh_dba._remaining(run hotmesh_dba._run) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN (run).lanes IS NOT NULL THEN coalesce(sum(l.locked + cardinality(l.skip)
                        + CASE WHEN l.finished THEN 0 ELSE greatest(1, coalesce(l.due, 0) - l.taken) END), 0) END
    FROM unnest((run).lanes) l
$$;

-- What the caller is told once the record is committed: the error, or a warning of what is left.
CREATE OR REPLACE FUNCTION hotmesh_dba._report(run hotmesh_dba._run) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (run).sqlstate IS NOT NULL THEN
        RAISE EXCEPTION '%', (run).message
            USING ERRCODE = (run).sqlstate,
                  DETAIL = concat_ws(' ', (run).detail,
                                     format('Run %s of app "%s" removed %s rows before, and they stay removed.',
                                            (run).id, (run).app, (run).taken)),
                  HINT = coalesce((run).hint, format('SELECT * FROM hotmesh_dba.run WHERE id = %s; and call it again to go on.', (run).id));
    ELSIF (run).stop_reason IS NOT NULL THEN
        RAISE WARNING 'run % of app "%" stopped: %', (run).id, (run).app, (run).stop_reason
            USING DETAIL = format('%s rows were removed, about %s are left.', (run).taken, (run).remaining),
                  HINT = 'Call it again to go on.';
    END IF;
END
$$;
