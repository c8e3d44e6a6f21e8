-- How many rows of a step are due: a look that is bounded in what it reads, not only in what it finds.

-- Is there a whole, valid index that begins with the column? (By the predicate as the catalogue has it: pg_get_indexdef
-- would wait for whoever has locked the table.)
CREATE OR REPLACE FUNCTION hotmesh_dba._has_index_on(relation regclass, column_name name) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = relation AND i.indisvalid AND a.attname = column_name
          AND (i.indpred IS NULL
               OR i.indpred::text ~ format('^{NULLTEST :arg {VAR [^{}]*:varattno %s [^{}]*} :nulltesttype 1 [^{}]*}$', a.attnum)));
END
$$;

-- The rows to look at, $3 of them: those with the oldest marks, or those that no strip has marked yet; where no index
-- leads to them, any. Many of them may not be due (failed and running jobs, other entities): the step's own filter says.
CREATE OR REPLACE FUNCTION hotmesh_dba._candidates_query(step hotmesh_dba._step) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format('SELECT t.* FROM %s t %s LIMIT $3', (step).relation, CASE
        WHEN (step).name = 'strip'
        THEN (SELECT substring(w.definition FROM 'WHERE .*')
              FROM hotmesh_dba._strip_indexes() w
              WHERE hotmesh_dba._strip_index((step).relation, w.kind) IS NOT NULL
              ORDER BY w.kind = 'unstripped' DESC
              LIMIT 1)
        WHEN hotmesh_dba._has_index_on((step).relation, (step).mark_column)
        THEN format('WHERE t.%1$I <= $1 ORDER BY t.%1$I', (step).mark_column)
    END);
END
$$;

-- Counts among candidates: due ones, the oldest mark of these, and all that were looked at.
CREATE OR REPLACE FUNCTION hotmesh_dba._count_query(step hotmesh_dba._step, candidates text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format('SELECT count(*) FILTER (WHERE c.is_due) AS due, min(c.mark) FILTER (WHERE c.is_due) AS oldest, count(*) AS seen
                   FROM (SELECT %s AND (%s) IS NOT TRUE AS is_due, %s AS mark FROM (%s) t) c',
                  (step).row_filter, coalesce((step).taken_before, 'false'),
                  coalesce('t.' || quote_ident((step).mark_column), 'NULL::timestamptz'), candidates);
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._look_by_index(
    step hotmesh_dba._step, bound bigint, OUT due bigint, OUT oldest timestamptz, OUT seen bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET max_parallel_workers_per_gather = 0
SET jit = off
SET lock_timeout = 0
AS $$
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE hotmesh_dba._count_query(step, hotmesh_dba._candidates_query(step))
        INTO due, oldest, seen
        USING (step).before, (step).entity_list, bound;
END
$$;

-- An index whose dead entries nobody may clean away yet is walked through them all to the first living row. So where
-- they are many: a few pages of every leaf, from its first to its last, and what is due on them is the least there is.
CREATE OR REPLACE FUNCTION hotmesh_dba._look_by_pages(step hotmesh_dba._step, OUT due bigint, OUT oldest timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_indexscan = off
SET enable_indexonlyscan = off
SET enable_bitmapscan = off
SET max_parallel_workers_per_gather = 0
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    c_groups CONSTANT int := 8;
    c_pages  CONSTANT int := 8;
    v_pages  bigint;
    v_page   bigint;
    v_due    bigint;
    v_oldest timestamptz;
    v_seen   bigint;
BEGIN
    due := 0;
    PERFORM hotmesh_dba._bound_waiting();
    v_pages := (SELECT max(hotmesh_dba._pages(l.leaf)) FROM hotmesh_dba._leaves((step).relation) l);
    FOR v_group IN 0 .. c_groups - 1 LOOP
        v_page := v_group * greatest(0, v_pages - c_pages) / (c_groups - 1);
        EXECUTE hotmesh_dba._count_query(step, format('SELECT t.* FROM %s t WHERE t.ctid >= $3 AND t.ctid < $4', (step).relation))
            INTO v_due, v_oldest, v_seen
            USING (step).before, (step).entity_list, hotmesh_dba._page_start(v_page),
                  hotmesh_dba._page_start(v_page + c_pages);
        due := due + v_due;
        oldest := least(oldest, v_oldest);
    END LOOP;
END
$$;

-- Due rows, up to the bound; exact: these are all. Where somebody has locked the table, or the caller may not look: NULL.
CREATE OR REPLACE FUNCTION hotmesh_dba._look_for_due(
    step hotmesh_dba._step, OUT due bigint, OUT exact boolean, OUT oldest timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_bound CONSTANT bigint := 1000;
    c_dead  CONSTANT bigint := 200000;
    v_seen  bigint;
BEGIN
    IF hotmesh_dba._dead_rows((step).relation) > c_dead THEN
        SELECT l.due, false, l.oldest INTO due, exact, oldest FROM hotmesh_dba._look_by_pages(step) l;
    ELSE
        SELECT l.due, l.oldest, l.seen INTO due, oldest, v_seen FROM hotmesh_dba._look_by_index(step, c_bound + 1) l;
        exact := v_seen <= c_bound AND NOT row_security_active((step).relation);
        due := least(due, c_bound);
    END IF;
EXCEPTION WHEN OTHERS THEN
    due := NULL;
    exact := NULL;
    oldest := NULL;
END
$$;
