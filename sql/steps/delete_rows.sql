-- Messages and signals: up to max_rows due rows go (NULL: all of them). Nobody locks a processed message,
-- so they are not locked first either: FOR UPDATE would write every row once more.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_rows(step hotmesh_dba._step, max_rows bigint)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_chosen text := '';
    v_taken  bigint;
BEGIN
    IF max_rows IS NOT NULL THEN
        v_chosen := format('AND (%1$s) IN (SELECT %1$s FROM %2$s t WHERE %3$s LIMIT $3)',
                           step.key_columns, step.relation, step.row_filter);
    END IF;
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('DELETE FROM %s t WHERE %s %s', step.relation, step.row_filter, v_chosen)
        USING step.before, step.entity_list, max_rows;
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    RETURN ROW(v_taken, 0, '{}', max_rows IS NULL OR v_taken < max_rows)::hotmesh_dba._outcome;
END
$$;
