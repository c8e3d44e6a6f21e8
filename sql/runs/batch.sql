-- One transaction of a run: a batch, or a moment's wait, or its end. All of a run's logic is here, for a procedure that
-- commits can neither fix its search_path nor catch an error.

CREATE OR REPLACE FUNCTION hotmesh_dba._over_budget(run hotmesh_dba._run) RETURNS text
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN clock_timestamp() >= (run).ends_at THEN 'max_runtime'
                WHEN (run).taken >= (run).max_rows THEN 'max_rows' END
$$;

-- Every lane is done: was anything left?
CREATE OR REPLACE FUNCTION hotmesh_dba._conclude(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_skipped bigint := (SELECT sum(cardinality(l.skip)) FROM unnest((run).lanes) l);
    v_locked  bigint := (SELECT sum(l.locked) FROM unnest((run).lanes) l);
BEGIN
    IF (run).sqlstate IS NULL AND v_skipped > 0 THEN
        run.sqlstate := '09000';    -- triggered_action_exception
        run.message := format('%s rows of app "%s" cannot be removed', v_skipped, (run).app);
        run.detail := 'A WARNING named each of them.';
        run.hint := 'Mend or delete those rows by hand; see hotmesh_dba.run for the record.';
    END IF;
    RETURN hotmesh_dba._end_run(run, CASE WHEN (run).sqlstate IS NOT NULL THEN 'error' WHEN v_locked > 0 THEN 'locked' END);
END
$$;

-- On to the next lane. One of the same step begins with the size that this one ended with.
CREATE OR REPLACE FUNCTION hotmesh_dba._leave_lane(run hotmesh_dba._run, lane hotmesh_dba._lane, finished boolean)
RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_next hotmesh_dba._lane := (run).lanes[(run).current + 1];
BEGIN
    lane.finished := finished;
    lane.queue := NULL;
    run.lanes[(run).current] := lane;
    run.current := (run).current + 1;
    IF ((v_next).step).name = ((lane).step).name THEN
        v_next.size := (lane).size;
        run.lanes[(run).current] := v_next;
    END IF;
    RETURN run;
END
$$;

-- Where not all of it could be taken at once (somebody has locked a row, or one cannot go), each leaf is a lane.
CREATE OR REPLACE FUNCTION hotmesh_dba._split_sweep(run hotmesh_dba._run, lane hotmesh_dba._lane) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    run.lanes := (run).lanes[: (run).current - 1] || hotmesh_dba._probed_lanes((lane).step, false, 1, 1)
                 || (run).lanes[(run).current + 1 :];
    RETURN run;
END
$$;

-- Was its table dropped under us? Then its rows are gone, and nothing is left to do there.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_gone(lane hotmesh_dba._lane) RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = lane.relation) $$;

-- What a batch, or a look at a lane, does with an error that is no lock's. A row's fault ends its lane; any other error
-- ends its step, for it would meet all the step's lanes.
CREATE OR REPLACE FUNCTION hotmesh_dba._fail_lane(
    run hotmesh_dba._run, lane hotmesh_dba._lane, sqlstate_of text, message text, detail text, hint text)
RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF hotmesh_dba._is_gone(lane) THEN
        RETURN hotmesh_dba._leave_lane(run, lane, true);
    ELSIF (lane).sweeps THEN
        RETURN hotmesh_dba._split_sweep(run, lane);
    END IF;
    run := hotmesh_dba._with_error(run, sqlstate_of, message, detail, hint);
    IF NOT hotmesh_dba._is_a_rows_fault(sqlstate_of) THEN
        run.failed_steps := (run).failed_steps || ((lane).step).name;
    END IF;
    RETURN hotmesh_dba._leave_lane(run, (run).lanes[(run).current], false);
END
$$;

-- A lane was gone through to its end. A row may have moved behind our back (an UPDATE puts its new version anywhere), so
-- nothing is done before a last look finds nothing due. What is left then is locked by others; jobs that completed
-- meanwhile are left to the next run.
CREATE OR REPLACE FUNCTION hotmesh_dba._end_pass(run hotmesh_dba._run, lane hotmesh_dba._lane) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_bound CONSTANT bigint := 1000;
    v_left  bigint := CASE WHEN hotmesh_dba._is_part_of((lane).relation, ((lane).step).relation)
                           THEN hotmesh_dba._look_again(lane, c_bound) ELSE 0 END;
    v_free  bigint := CASE WHEN v_left > 0 THEN hotmesh_dba._count_lane(lane, c_bound, true) ELSE 0 END;
BEGIN
    IF (lane).sweeps AND v_left > 0 THEN
        RETURN hotmesh_dba._split_sweep(run, lane);
    END IF;
    IF v_free > 0 AND ((lane).passes < 2 OR (lane).taken >= 10000 OR (lane).faults >= 100) THEN
        lane.passes := (lane).passes + 1;
        lane.taken := 0;
        lane.way := NULL;
        lane.next_tid := '(0,0)';
        lane.next_mark := '-infinity';
        lane.queue := NULL;
        run.lanes[(run).current] := lane;
        RETURN run;
    END IF;
    lane.locked := greatest((lane).locked, CASE WHEN ((lane).step).name = 'strip' THEN v_left - v_free ELSE v_left END);
    RETURN hotmesh_dba._leave_lane(run, lane, true);
END
$$;

-- A batch met a lock, and has given way. It is tried again, smaller each time and after a while; then its rows are left,
-- and it goes on behind them. Where that does not help either, the rest of the table is left.
CREATE OR REPLACE FUNCTION hotmesh_dba._give_way(run hotmesh_dba._run, lane hotmesh_dba._lane, tried bigint)
RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_choice hotmesh_dba._choice;
BEGIN
    IF hotmesh_dba._is_gone(lane) THEN
        RETURN hotmesh_dba._leave_lane(run, lane, true);
    ELSIF (lane).sweeps THEN
        RETURN hotmesh_dba._split_sweep(run, lane);
    END IF;
    lane.careful := true;
    lane.setbacks := (lane).setbacks + 1;
    lane.size := greatest(1, tried / 4);
    run.resume_at := clock_timestamp() + (lane).setbacks * (0.02 + 0.03 * random()) * interval '1 second';
    IF (lane).setbacks < 5 THEN
        run.lanes[(run).current] := lane;
        RETURN run;
    END IF;

    IF (lane).given_up < 3 AND (lane).way IS NOT NULL AND (hotmesh_dba._is_of_jobs((lane).step) OR (lane).is_leaf) THEN
        BEGIN
            v_choice := hotmesh_dba._choose(lane, (lane).size, 4096);
            lane := v_choice.lane;
            lane.locked := (lane).locked + coalesce(cardinality(v_choice.tids), 0);
            lane.given_up := (lane).given_up + 1;
            lane.setbacks := 0;
            run.lanes[(run).current] := lane;
            RETURN CASE WHEN v_choice.finished THEN hotmesh_dba._leave_lane(run, lane, true) ELSE run END;
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            NULL;   -- so it is left
        END;
    END IF;
    lane.locked := greatest(1, (lane).locked);
    RETURN hotmesh_dba._leave_lane(run, lane, false);
END
$$;

-- The first error is the run's.
CREATE OR REPLACE FUNCTION hotmesh_dba._with_error(
    run hotmesh_dba._run, sqlstate_of text, message text, detail text, hint text) RETURNS hotmesh_dba._run
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (run).sqlstate IS NULL THEN
        run.sqlstate := sqlstate_of;
        run.message := message;
        run.detail := nullif(detail, '');
        run.hint := nullif(hint, '');
    END IF;
    RETURN run;
END
$$;

-- A batch, its record, and the last look where it was the lane's last: whole, or undone by whoever called.
CREATE OR REPLACE FUNCTION hotmesh_dba._do_batch(run hotmesh_dba._run, lane hotmesh_dba._lane, max_rows bigint)
RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_begun   timestamptz := clock_timestamp();
    v_wal     pg_lsn := pg_current_wal_insert_lsn();
    v_outcome hotmesh_dba._outcome;
    v_elapsed interval;
BEGIN
    SET CONSTRAINTS ALL IMMEDIATE;      -- an error of a deferred trigger belongs to its row, and not to the COMMIT
    v_outcome := hotmesh_dba._run_batch(lane, _do_batch.max_rows, (run).batch_size IS NULL AND (run).max_rows IS NULL);
    SET CONSTRAINTS ALL IMMEDIATE;      -- a trigger may have deferred them again
    v_elapsed := clock_timestamp() - v_begun;
    lane := v_outcome.lane;
    lane.size := hotmesh_dba._next_size(_do_batch.max_rows, v_outcome.taken, v_elapsed, (run).batch_time);
    IF (lane).faults >= 100 THEN        -- in strides that soon lead past the rows that cannot go, slow as these are
        lane.size := greatest((lane).size, hotmesh_dba._first_size((lane).step));
    END IF;
    lane.setbacks := 0;
    lane.taken := (lane).taken + v_outcome.taken;
    run.lanes[(run).current] := lane;
    run.taken := (run).taken + v_outcome.taken;
    PERFORM hotmesh_dba._record_batch(run, ((lane).step).name, v_outcome, v_elapsed);
    run.resume_at := clock_timestamp() + hotmesh_dba._pause_after(run, v_begun, v_wal);
    IF (run).max_replica_lag IS NOT NULL AND hotmesh_dba._replayed((run).replay_lsn) THEN
        run.replay_lsn := pg_current_wal_insert_lsn();
        run.replay_since := clock_timestamp();
    END IF;
    RETURN CASE WHEN v_outcome.finished THEN hotmesh_dba._end_pass(run, lane) ELSE run END;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._try_batch(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_lane   hotmesh_dba._lane := (run).lanes[(run).current];
    v_rows   bigint;
    v_detail text;
    v_hint   text;
BEGIN
    IF ((v_lane).step).name = ANY ((run).failed_steps) THEN
        RETURN hotmesh_dba._leave_lane(run, v_lane, false);
    END IF;
    v_lane.size := coalesce((v_lane).size, hotmesh_dba._first_size((v_lane).step));
    v_rows := hotmesh_dba._batch_rows(run, v_lane);
    RETURN hotmesh_dba._do_batch(run, v_lane, v_rows);
EXCEPTION
    WHEN lock_not_available OR deadlock_detected THEN
        RETURN hotmesh_dba._give_way(run, v_lane, v_rows);
    WHEN OTHERS OR assert_failure THEN
        GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
        RETURN hotmesh_dba._fail_lane(run, v_lane, SQLSTATE, SQLERRM, v_detail, v_hint);
END
$$;

-- The first thing that a run does, once others can see it: it looks at how much there is to do, as long as that takes.
CREATE OR REPLACE FUNCTION hotmesh_dba._plan_run(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_detail text;
    v_hint   text;
BEGIN
    run.lanes := hotmesh_dba._plan_lanes(
        (run).steps, (run).disable_triggers, (run).worker, (run).workers,
        (run).workers = 1 AND (run).batch_size IS NULL AND (run).max_rows IS NULL AND hotmesh_dba._forced_way() IS NULL,
        (run).batch_time);
    run.current := 1;
    run.steps := NULL;
    IF (run).ends_at > (run).resume_at THEN     -- not told to do nothing: however long the look took, there is time for a batch
        run.ends_at := greatest((run).ends_at, clock_timestamp() + (run).batch_time);
    END IF;
    UPDATE hotmesh_dba.run r
    SET expected = (SELECT coalesce(sum(l.due), 0) FROM unnest((run).lanes) l),
        expected_by_step = hotmesh_dba._expected_by_step((run).lanes), updated_at = clock_timestamp()
    WHERE r.id = (run).id;
    RETURN run;
EXCEPTION WHEN OTHERS OR assert_failure THEN
    GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
    RETURN hotmesh_dba._end_run(hotmesh_dba._with_error(run, SQLSTATE, SQLERRM, v_detail, v_hint), 'error');
END
$$;

-- Of a policy's run: the app, or a table that is being worked at.
CREATE OR REPLACE FUNCTION hotmesh_dba._has_other_owner(run hotmesh_dba._run) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_owner oid := (SELECT r.app_owner FROM hotmesh_dba.run r WHERE r.id = (run).id);
    v_lane  hotmesh_dba._lane := (run).lanes[(run).current];
BEGIN
    RETURN v_owner IS NOT NULL
       AND (v_owner <> hotmesh_dba._owner((run).app)
            OR EXISTS (SELECT FROM pg_class c
                       WHERE c.oid IN ((v_lane).relation, ((v_lane).step).relation, ((v_lane).step).attributes, (v_lane).attributes)
                         AND NOT hotmesh_dba._speaks_for(v_owner, c.relowner, c.relispartition)));
END
$$;

-- An app that was renamed or dropped under the run, or a policy's that was given away, is no more what was asked for; and
-- whoever may prune it now does not see this run's record.
CREATE OR REPLACE FUNCTION hotmesh_dba._with_lost_app(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_name name := (SELECT n.nspname FROM pg_namespace n WHERE n.oid = (run).schema_oid);
BEGIN
    IF v_name IS NULL THEN
        RETURN hotmesh_dba._with_error(run, '3F000', format('app "%s" was dropped under its run', (run).app),
                                       'Its schema is gone.', 'Nothing is left to do.');
    ELSIF v_name <> (run).app THEN
        RETURN hotmesh_dba._with_error(run, '55000', format('app "%s" was renamed to "%s" under its run', (run).app, v_name),
                                       'A run goes on for as long as its app has the name that it was called with.',
                                       format('Call it again for app %L.', v_name));
    ELSIF hotmesh_dba._has_other_owner(run) THEN
        RETURN hotmesh_dba._with_error(run, '55000', format('app "%s" was given to another owner under its run', (run).app),
                                       'A policy is the owner''s who set it.', 'Its new owner may set it anew.');
    END IF;
    RETURN run;
END
$$;

-- Whatever no block of the run has caught: its record is gone, or somebody else holds its locks. It ends without a record
-- where even that cannot be written.
CREATE OR REPLACE FUNCTION hotmesh_dba._abandon_run(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
BEGIN
    RETURN hotmesh_dba._end_run(run, 'error');
EXCEPTION WHEN OTHERS OR assert_failure THEN
    run.ended := true;
    run.stop_reason := 'error';
    RETURN run;
END
$$;

-- A cancel in here ends the run with a true record; elsewhere it leaves a row whose process is seen to be gone. (What a
-- trigger says in its words is an error like any other.)
CREATE OR REPLACE FUNCTION hotmesh_dba._next(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_reason  text;
    v_detail  text;
    v_hint    text;
    v_context text;
BEGIN
    PERFORM hotmesh_dba._take_run_locks(run);
    IF hotmesh_dba._is_lost((run).app, (run).schema_oid) OR hotmesh_dba._has_other_owner(run) THEN
        RETURN hotmesh_dba._end_run(hotmesh_dba._with_lost_app(run), 'error');
    ELSIF (run).lanes IS NULL THEN
        -- Not (run).max_percent: a run that 1.1.0 began, and that goes on under an update, has no such field.
        RETURN CASE WHEN to_jsonb(run) ->> 'max_percent' IS NOT NULL THEN hotmesh_dba._try_fuse(run)
                    ELSE hotmesh_dba._plan_run(run) END;
    END IF;
    v_reason := hotmesh_dba._over_budget(run);
    IF (run).current > cardinality((run).lanes) THEN
        RETURN hotmesh_dba._conclude(run);
    ELSIF v_reason IS NOT NULL THEN
        RETURN hotmesh_dba._end_run(run, CASE WHEN (run).sqlstate IS NULL THEN v_reason ELSE 'error' END);
    ELSIF NOT hotmesh_dba._throttle(run) THEN
        RETURN run;
    END IF;
    RETURN hotmesh_dba._try_batch(run);
EXCEPTION
    WHEN query_canceled THEN
        GET STACKED DIAGNOSTICS v_context = PG_EXCEPTION_CONTEXT;
        run := hotmesh_dba._with_error(run, SQLSTATE, SQLERRM, NULL, NULL);
        RETURN hotmesh_dba._end_run(run, CASE WHEN split_part(v_context, chr(10), 1) LIKE '% RAISE' THEN 'error' ELSE 'cancelled' END);
    WHEN OTHERS OR assert_failure THEN
        IF to_jsonb(run) ->> 'isolated' IS DISTINCT FROM 'true' THEN     -- 1.1.0's has no such field, see above
            RAISE;
        END IF;
        GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
        RETURN hotmesh_dba._abandon_run(hotmesh_dba._with_error(run, SQLSTATE, SQLERRM, v_detail, v_hint));
END
$$;
