-- A knob of prune_batched that is out of its range.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_knob(ok boolean, option_name text, value text, range text, example text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF ok IS NOT TRUE THEN
        RAISE EXCEPTION '% must be %: %', option_name, range, coalesce(value, 'NULL')
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Nothing was changed.',
                  HINT = format('Write for example %s => %s.', option_name, example);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_knobs(
    batch_size int, batch_time interval, batch_pause interval, max_runtime interval, max_rows bigint, worker int,
    workers int, disable_triggers boolean, max_wal_rate bigint, max_replica_lag interval) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM hotmesh_dba._check_knob(coalesce(batch_size > 0, true), 'batch_size', batch_size::text, 'positive, or NULL', '1000');
    PERFORM hotmesh_dba._check_knob(batch_time BETWEEN '1 ms' AND '1 hour', 'batch_time', batch_time::text,
                                    'between 1 ms and an hour', '''200 ms''');
    PERFORM hotmesh_dba._check_knob(batch_pause BETWEEN '0' AND '1 hour', 'batch_pause', batch_pause::text,
                                    'between 0 and an hour', '''50 ms''');
    PERFORM hotmesh_dba._check_knob(coalesce(max_runtime BETWEEN '0' AND '1 year', true), 'max_runtime', max_runtime::text,
                                    'between 0 and a year, or NULL', '''10 minutes''');
    PERFORM hotmesh_dba._check_knob(coalesce(max_rows > 0, true), 'max_rows', max_rows::text, 'positive, or NULL', '1000000');
    PERFORM hotmesh_dba._check_knob(workers BETWEEN 1 AND 64, 'workers', workers::text, 'between 1 and 64', '2');
    PERFORM hotmesh_dba._check_knob(worker BETWEEN 1 AND workers, 'worker', worker::text, 'between 1 and workers', '1');
    PERFORM hotmesh_dba._check_flag('disable_triggers', disable_triggers);
    PERFORM hotmesh_dba._check_knob(coalesce(max_wal_rate > 0, true), 'max_wal_rate', max_wal_rate::text,
                                    'positive (bytes a second), or NULL', '50000000');
    PERFORM hotmesh_dba._check_knob(coalesce(max_replica_lag BETWEEN '0' AND '1 year', true), 'max_replica_lag',
                                    max_replica_lag::text, 'between 0 and a year, or NULL', '''10 seconds''');
    IF max_replica_lag IS NOT NULL AND NOT pg_has_role('pg_read_all_stats', 'USAGE') THEN
        RAISE EXCEPTION 'permission denied to see how far replicas are'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('Role "%s" may not read pg_stat_replication, which max_replica_lag needs.', current_user),
                  HINT = format('GRANT pg_read_all_stats TO %I;', current_user);
    END IF;
END
$$;

-- max_runtime NULL: nine tenths of statement_timeout, where one is set; it bounds the whole CALL, and setting it inside
-- does not help.
CREATE OR REPLACE FUNCTION hotmesh_dba._ends_at(max_runtime interval) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT statement_timestamp()
           + coalesce(max_runtime, nullif(current_setting('statement_timeout')::interval, '0') * 0.9)
$$;

-- Where one statement may take all that is due of a step: its lane, or none if nothing is due; NULL where it may not.
CREATE OR REPLACE FUNCTION hotmesh_dba._plan_sweep(step hotmesh_dba._step, batch_time interval) RETURNS hotmesh_dba._lane[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_most bigint := hotmesh_dba._sweep_rows(step, batch_time);
    v_lane hotmesh_dba._lane := hotmesh_dba._sweep_lane(step, NULL);
BEGIN
    v_lane.due := CASE WHEN v_most > 0 THEN hotmesh_dba._count_lane(v_lane, v_most + 1, false) END;
    RETURN CASE WHEN v_lane.due = 0 THEN '{}'
                WHEN v_lane.due <= v_most THEN ARRAY[v_lane] END;
EXCEPTION WHEN OTHERS OR assert_failure THEN
    RETURN NULL;    -- what is wrong is seen when its turn has come
END
$$;

-- Of a step the lanes that this worker has: every workers-th leaf; what has no leaves is worker 1's. Those in which nothing
-- is due are left out; of the others the probe says how much.
CREATE OR REPLACE FUNCTION hotmesh_dba._probed_lanes(step hotmesh_dba._step, disable_triggers boolean, worker int, workers int)
RETURNS hotmesh_dba._lane[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_lane  hotmesh_dba._lane;
    v_lanes hotmesh_dba._lane[] := '{}';
BEGIN
    FOR v_lane IN SELECT l.* FROM hotmesh_dba._lanes(step, disable_triggers) l WHERE l.number % workers = worker - 1 LOOP
        BEGIN
            v_lane := hotmesh_dba._probe(v_lane);
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            NULL;   -- it is probed when its turn has come
        END;
        v_lane.spares := true;
        IF (v_lane).due IS DISTINCT FROM 0 THEN
            v_lanes := v_lanes || v_lane;
        END IF;
    END LOOP;
    RETURN v_lanes;
END
$$;

-- may_sweep: nobody shares the work or has said how much a batch takes.
CREATE OR REPLACE FUNCTION hotmesh_dba._plan_lanes(
    steps hotmesh_dba._step[], disable_triggers boolean, worker int, workers int, may_sweep boolean, batch_time interval)
RETURNS hotmesh_dba._lane[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_step  hotmesh_dba._step;
    v_lanes hotmesh_dba._lane[] := '{}';
    v_step_lanes hotmesh_dba._lane[];
BEGIN
    FOREACH v_step IN ARRAY steps LOOP
        v_step_lanes := CASE WHEN may_sweep THEN hotmesh_dba._plan_sweep(v_step, batch_time) END;
        IF v_step_lanes IS NULL AND hotmesh_dba._is_due(v_step) THEN
            v_step_lanes := hotmesh_dba._probed_lanes(v_step, disable_triggers, worker, workers);
        END IF;
        v_lanes := v_lanes || v_step_lanes;
    END LOOP;
    RETURN v_lanes;
END
$$;

-- What the probes found, by step; a step that spans tables is one.
CREATE OR REPLACE FUNCTION hotmesh_dba._expected_by_step(lanes hotmesh_dba._lane[]) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_object_agg(s.name, s.due), '{}')
    FROM (SELECT ((l).step).name AS name, coalesce(sum((l).due), 0) AS due
          FROM unnest(lanes) l GROUP BY 1) s
$$;

-- Makes sure that nobody else prunes this app (or, with several workers, its part), and closes what dead runs left open.
CREATE OR REPLACE FUNCTION hotmesh_dba._claim_app(app_schema name, worker int, workers int, options jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'
AS $$
DECLARE
    v_other hotmesh_dba.run;
BEGIN
    -- Workers that begin at the same instant look at each other's rows one after the other.
    PERFORM pg_advisory_xact_lock(hotmesh_dba._lock_key(app_schema), -1);
    IF NOT hotmesh_dba._try_run_locks(app_schema, worker, workers) THEN
        PERFORM hotmesh_dba._raise_busy(app_schema, worker, NULL);
    END IF;
    PERFORM hotmesh_dba._tidy_runs(app_schema);
    FOR v_other IN SELECT r.* FROM hotmesh_dba.run r WHERE r.app = app_schema AND r.state = 'running' LOOP
        IF v_other.workers <> workers OR v_other.worker = worker OR workers = 1 THEN
            PERFORM hotmesh_dba._raise_busy(app_schema, worker, format('It has %s workers, this one would be worker %s of %s.',
                                                                       v_other.workers, worker, workers));
        ELSIF v_other.options - 'worker' <> options - 'worker' THEN
            PERFORM hotmesh_dba._raise_busy(app_schema, worker, 'Its options are others, and workers share theirs.');
        END IF;
    END LOOP;
END
$$;

-- A worker that joins others shares their cutoffs.
CREATE OR REPLACE FUNCTION hotmesh_dba._share_cutoffs(options hotmesh_dba._options, first hotmesh_dba.run)
RETURNS hotmesh_dba._options
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    options.jobs_before := first.jobs_before;
    options.engine_before := first.engine_before;
    options.worker_before := first.worker_before;
    options.signals_until := first.signals_until;
    RETURN options;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._first_worker(app_schema name) RETURNS hotmesh_dba.run
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.* FROM hotmesh_dba.run r WHERE r.app = app_schema AND r.state = 'running' ORDER BY r.id LIMIT 1
$$;

-- The run's row, joined to the first worker's by group_id; the first one's is its own id.
CREATE OR REPLACE FUNCTION hotmesh_dba._insert_run(
    options hotmesh_dba._options, worker int, workers int, arguments jsonb, group_id bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_id bigint;
BEGIN
    INSERT INTO hotmesh_dba.run AS r (group_id, app, worker, workers, options, jobs_before, engine_before, worker_before,
                                      signals_until, triggers_disabled)
    VALUES (coalesce(_insert_run.group_id, 0), (options).app_schema, worker, workers, arguments, (options).jobs_before,
            (options).engine_before, (options).worker_before, (options).signals_until, (options).disable_triggers)
    RETURNING r.id INTO v_id;
    IF _insert_run.group_id IS NULL THEN
        UPDATE hotmesh_dba.run r SET group_id = v_id WHERE r.id = v_id;
    END IF;
    RETURN v_id;
END
$$;

-- Everything that comes before the plan: the rights, the locks, the record.
CREATE OR REPLACE FUNCTION hotmesh_dba._start_run(
    options hotmesh_dba._options, arguments jsonb, batch_size int, batch_time interval, batch_pause interval,
    max_runtime interval, max_rows bigint, worker int, workers int, max_wal_rate bigint, max_replica_lag interval)
RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_run   hotmesh_dba._run;
    v_steps hotmesh_dba._step[] := ARRAY(SELECT s FROM hotmesh_dba._steps(options) s);
    v_first hotmesh_dba.run;
BEGIN
    PERFORM hotmesh_dba._check_steps(v_steps, (options).disable_triggers);
    PERFORM hotmesh_dba._check_privilege(hotmesh_dba._jobs((options).app_schema), 'DELETE');    -- its record is guarded by it
    PERFORM hotmesh_dba._check_row_security('hotmesh_dba.run');
    PERFORM hotmesh_dba._claim_app((options).app_schema, worker, workers, arguments);
    IF workers > 1 THEN
        v_first := hotmesh_dba._first_worker((options).app_schema);
        IF v_first.id IS NOT NULL THEN
            options := hotmesh_dba._share_cutoffs(options, v_first);
            v_steps := ARRAY(SELECT s FROM hotmesh_dba._steps(options) s);
        END IF;
    END IF;
    v_run.id := hotmesh_dba._insert_run(options, worker, workers, arguments, v_first.group_id);
    v_run.app := (options).app_schema;
    v_run.worker := worker;
    v_run.workers := workers;
    v_run.schema_oid := (SELECT n.oid FROM pg_namespace n WHERE n.nspname = v_run.app);
    v_run.steps := v_steps;
    v_run.disable_triggers := (options).disable_triggers;
    v_run.batch_size := batch_size;
    v_run.batch_time := batch_time;
    v_run.batch_pause := batch_pause;
    v_run.ends_at := hotmesh_dba._ends_at(max_runtime);
    v_run.max_rows := max_rows;
    v_run.max_wal_rate := max_wal_rate;
    v_run.max_replica_lag := max_replica_lag;
    v_run.taken := 0;
    v_run.resume_at := statement_timestamp();
    v_run.replay_lsn := pg_current_wal_insert_lsn();
    v_run.replay_since := clock_timestamp();
    v_run.failed_steps := '{}';
    v_run.ended := false;
    RETURN v_run;
END
$$;
-- The procedure's arguments, resolved and written down; an interval in one style, whatever the session's, for workers
-- compare what they were given.
CREATE OR REPLACE FUNCTION hotmesh_dba._begin_run(
    app_id text, retention interval, prune_jobs boolean, prune_streams boolean, strip_attributes boolean,
    entity_list text[], prune_transient boolean, keep_hmark boolean, prune_engine_streams boolean,
    prune_worker_streams boolean, engine_streams_retention interval, worker_streams_retention interval,
    prune_signals boolean, batch_size int, batch_time interval, batch_pause interval, max_runtime interval,
    max_rows bigint, worker int, workers int, disable_triggers boolean, max_wal_rate bigint, max_replica_lag interval)
RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET intervalstyle = 'postgres'
AS $$
DECLARE
    v_options   hotmesh_dba._options;
    v_arguments jsonb := jsonb_build_object(
        'retention', retention, 'prune_jobs', prune_jobs, 'prune_streams', prune_streams,
        'strip_attributes', strip_attributes, 'entity_list', entity_list, 'prune_transient', prune_transient,
        'keep_hmark', keep_hmark, 'prune_engine_streams', prune_engine_streams, 'prune_worker_streams', prune_worker_streams,
        'engine_streams_retention', engine_streams_retention, 'worker_streams_retention', worker_streams_retention,
        'prune_signals', prune_signals, 'batch_size', batch_size, 'batch_time', batch_time, 'batch_pause', batch_pause,
        'max_runtime', max_runtime, 'max_rows', max_rows, 'worker', worker, 'workers', workers,
        'disable_triggers', disable_triggers, 'max_wal_rate', max_wal_rate, 'max_replica_lag', max_replica_lag);
BEGIN
    PERFORM hotmesh_dba._check_writable();
    v_options := hotmesh_dba._resolve(
        app_id, retention, prune_jobs, prune_streams, strip_attributes, entity_list, prune_transient, keep_hmark,
        prune_engine_streams, prune_worker_streams, engine_streams_retention, worker_streams_retention, prune_signals);
    PERFORM hotmesh_dba._check_knobs(batch_size, batch_time, batch_pause, max_runtime, max_rows, worker, workers,
                                     disable_triggers, max_wal_rate, max_replica_lag);
    v_options.disable_triggers := disable_triggers;
    RETURN hotmesh_dba._start_run(v_options, v_arguments, batch_size, batch_time, batch_pause, max_runtime, max_rows,
                                  worker, workers, max_wal_rate, max_replica_lag);
END
$$;
