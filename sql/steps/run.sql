-- One bounded batch of any step; whoever removes rows calls this.
CREATE OR REPLACE FUNCTION hotmesh_dba._run_step(step hotmesh_dba._step, max_rows bigint, skip uuid[])
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE
        WHEN step.name IN ('jobs', 'transient') THEN hotmesh_dba._delete_jobs(step, max_rows)
        WHEN step.name = 'strip' THEN hotmesh_dba._strip_jobs(step, max_rows, skip)
        ELSE hotmesh_dba._delete_rows(step, max_rows)
    END;
END
$$;

-- Adds what a step did (or would do) to the result's columns.
CREATE OR REPLACE FUNCTION hotmesh_dba._add(counts hotmesh_dba._counts, step_name text, taken bigint, attributes bigint)
RETURNS hotmesh_dba._counts
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE step_name
        WHEN 'jobs' THEN counts.deleted_jobs := counts.deleted_jobs + taken;
        WHEN 'transient' THEN counts.deleted_transient := counts.deleted_transient + taken;
        WHEN 'engine_streams' THEN counts.deleted_engine_streams := counts.deleted_engine_streams + taken;
        WHEN 'worker_streams' THEN counts.deleted_worker_streams := counts.deleted_worker_streams + taken;
        WHEN 'signals' THEN counts.deleted_signals := counts.deleted_signals + taken;
        WHEN 'strip' THEN
            counts.marked_pruned := counts.marked_pruned + taken;
            counts.stripped_attributes := counts.stripped_attributes + attributes;
    END CASE;
    counts.deleted_streams := counts.deleted_engine_streams + counts.deleted_worker_streams;
    RETURN counts;
END
$$;

-- How many rows of a step are due now, and are not taken by an earlier step; counted no further than max_rows.
CREATE OR REPLACE FUNCTION hotmesh_dba._count_due(step hotmesh_dba._step, max_rows bigint) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_count bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT count(*) FROM (%s) due', hotmesh_dba._due_query(step, '1'))
        INTO v_count
        USING step.before, step.entity_list, max_rows;
    RETURN v_count;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._due_query(step hotmesh_dba._step, columns text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT %s FROM %s t WHERE %s AND (%s) IS NOT TRUE LIMIT $3',
                  columns, step.relation, step.row_filter, coalesce(step.taken_before, 'false'))
$$;
