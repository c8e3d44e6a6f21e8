-- How many attributes the strip would remove, from no more than max_rows jobs, counted no further than max_rows.
CREATE OR REPLACE FUNCTION hotmesh_dba._count_attributes(step hotmesh_dba._step, max_rows bigint) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_count bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM %s a WHERE a.job_id IN (%s) AND %s LIMIT $3) due',
                   step.attributes, hotmesh_dba._due_query(step, 't.id'), step.attribute_filter)
        INTO v_count
        USING step.before, step.entity_list, max_rows;
    RETURN v_count;
END
$$;

-- STABLE, so PostgreSQL itself keeps it from changing anything, and all counts come from one snapshot.
CREATE OR REPLACE FUNCTION hotmesh_dba.preview(
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
    prune_signals            boolean  DEFAULT true,
    max_rows                 bigint   DEFAULT NULL)
RETURNS TABLE (
    deleted_jobs           bigint,
    deleted_streams        bigint,
    deleted_engine_streams bigint,
    deleted_worker_streams bigint,
    stripped_attributes    bigint,
    deleted_transient      bigint,
    marked_pruned          bigint,
    deleted_signals        bigint,
    exact                  boolean)
LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_options    hotmesh_dba._options;
    v_counts     hotmesh_dba._counts := (0, 0, 0, 0, 0, 0, 0, 0);
    v_step       hotmesh_dba._step;
    -- One more than is shown, to know whether there are more (least passes over NULL: no limit).
    v_limit      bigint := least(max_rows, 9223372036854775806) + 1;
    v_due        bigint;
    v_attributes bigint;
BEGIN
    IF max_rows < 1 THEN
        RAISE EXCEPTION 'max_rows must be positive: %', max_rows
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Counting stops at max_rows rows of a step and table.',
                  HINT = 'Leave it out to count everything: max_rows => NULL.';
    END IF;
    exact := true;
    v_options := hotmesh_dba._resolve(
        app_id, retention, prune_jobs, prune_streams, strip_attributes, entity_list, prune_transient, keep_hmark,
        prune_engine_streams, prune_worker_streams, engine_streams_retention, worker_streams_retention, prune_signals);
    PERFORM hotmesh_dba._check_step_privileges(s, false) FROM hotmesh_dba._steps(v_options) s;

    FOR v_step IN SELECT s.* FROM hotmesh_dba._steps(v_options) s LOOP
        v_due := hotmesh_dba._count_due(v_step, v_limit);
        v_attributes := CASE WHEN v_step.name = 'strip' THEN hotmesh_dba._count_attributes(v_step, v_limit) ELSE 0 END;
        exact := exact AND greatest(v_due, v_attributes) < v_limit;
        v_counts := hotmesh_dba._add(v_counts, v_step.name, least(v_due, max_rows), least(v_attributes, max_rows));
    END LOOP;

    RETURN QUERY SELECT v_counts.*, exact;
EXCEPTION WHEN lock_not_available THEN
    PERFORM hotmesh_dba._raise_locked(v_options.app_schema, 'preview');
END
$$;

COMMENT ON FUNCTION hotmesh_dba.preview(text, interval, boolean, boolean, boolean, text[], boolean, boolean, boolean, boolean, interval, interval, boolean, bigint) IS
'Counts what prune with the same options would remove, and changes nothing; needs SELECT alone, and works on a standby.
max_rows (NULL: no limit): stop counting at this many rows of a step and table.
exact: whether every count is the whole one. The strip is counted whole, though prune may do it in several calls.
Errors: 22023 22004 42602 3F000 42809 bad input; 42501 missing privilege; 55000 not deployed.';
