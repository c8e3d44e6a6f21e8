-- The attributes that the strip removes, over alias a; NULL where the type is not HotMesh's. NOT IN, since the planner knows no better way round
-- the index (type, symbol) where a restored database has no statistics yet.
CREATE OR REPLACE FUNCTION hotmesh_dba._attribute_filter(attributes regclass, keep_hmark boolean) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT 'a.type NOT IN (' || string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) || ')'
            FROM pg_attribute t
            JOIN pg_enum e ON e.enumtypid = t.atttypid
            WHERE t.attrelid = attributes AND t.attname = 'type'
              AND (e.enumlabel IN ('jdata', 'udata', 'jmark') OR keep_hmark AND e.enumlabel = 'hmark'));
END
$$;

-- What a call does, a row a step and table, in the contract's order: the one place that says which rows are
-- due. Whatever removes, counts or previews rows takes them from here. A missing table has no row.
-- Only $1 (before) and $2 (entity_list) stand in a filter, and never an expression over a column.
CREATE OR REPLACE FUNCTION hotmesh_dba._steps(options hotmesh_dba._options) RETURNS SETOF hotmesh_dba._step
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH app AS (
        SELECT hotmesh_dba._jobs(options.app_schema) AS jobs,
               hotmesh_dba._attributes(options.app_schema) AS attributes,
               hotmesh_dba._table(options.app_schema, 'engine_streams', '{stream_name,id,expired_at}') AS engine,
               hotmesh_dba._table(options.app_schema, 'worker_streams', '{stream_name,id,expired_at}') AS worker,
               -- Before 0.11 one table held both kinds; it may still stand, full, beside the newer two.
               hotmesh_dba._table(options.app_schema, 'streams', '{stream_name,id,expired_at,group_name}') AS streams,
               hotmesh_dba._table(options.app_schema, 'signal_registry', '{key,expiry}') AS signals,
               CASE WHEN options.entity_list IS NULL THEN '' ELSE ' AND t.entity = ANY ($2)' END AS of_entity
    ), step AS (
        SELECT s.*, app.jobs, app.attributes
        FROM app, LATERAL (VALUES
            (1, 'jobs',           options.jobs,           app.jobs,    'id',              't.expired_at < $1' || app.of_entity, options.jobs_before, 'expired_at'),
            (2, 'transient',      options.transient,      app.jobs,    'id',              't.expired_at < $1 AND t.entity IS NULL', options.jobs_before, 'expired_at'),
            (3, 'engine_streams', options.engine_streams, app.engine,  'stream_name, id', 't.expired_at < $1', options.engine_before, 'expired_at'),
            (4, 'engine_streams', options.engine_streams, app.streams, 'stream_name, id', 't.expired_at < $1 AND t.group_name = ''ENGINE''', options.engine_before, 'expired_at'),
            (5, 'worker_streams', options.worker_streams, app.worker,  'stream_name, id', 't.expired_at < $1', options.worker_before, 'expired_at'),
            (6, 'worker_streams', options.worker_streams, app.streams, 'stream_name, id', 't.expired_at < $1 AND t.group_name = ''WORKER''', options.worker_before, 'expired_at'),
            (7, 'strip',          options.strip,          app.jobs,    'id',              't.status = 0 AND t.is_live AND t.pruned_at IS NULL' || app.of_entity, options.jobs_before, NULL),
            (8, 'signals',        options.signals,        app.signals, 'key',             't.expiry <= $1', options.signals_until, 'expiry')
        ) AS s (ordinal, name, wanted, relation, key_columns, row_filter, before, mark_column)
        WHERE s.wanted AND s.relation IS NOT NULL
    )
    SELECT s.ordinal, s.name, s.relation, s.key_columns, s.row_filter, s.before, options.entity_list,
           (SELECT string_agg(e.row_filter, ' OR ' ORDER BY e.ordinal)
            FROM step e
            WHERE e.relation = s.relation AND s.relation = s.jobs AND e.ordinal < s.ordinal),
           CASE WHEN s.relation = s.jobs THEN s.attributes END,
           CASE WHEN s.name = 'strip' THEN hotmesh_dba._attribute_filter(s.attributes, options.keep_hmark) END,
           s.mark_column::name
    FROM step s
    ORDER BY s.ordinal;
END
$$;
