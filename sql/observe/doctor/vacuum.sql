-- doctor: whether the space of what was removed comes back.

CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_autovacuum(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'problem', format('%s is off: what is removed goes on taking up space.', s.name),
           format(E'ALTER SYSTEM SET %s = on;\nSELECT pg_reload_conf();', s.name)
    FROM (VALUES ('autovacuum'), ('track_counts')) s (name)
    WHERE NOT current_setting(s.name)::boolean
$$;

-- The app's plain tables, and when autovacuum comes to them.
CREATE OR REPLACE FUNCTION hotmesh_dba._vacuum_state(app_schema name)
RETURNS TABLE (root regclass, leaf regclass, live float8, dead bigint, enabled boolean, threshold float8, scaled float8)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH option AS (
        SELECT a AS root, l.leaf, greatest(c.reltuples, 0)::float8 AS live,
               (SELECT jsonb_object_agg(o.option_name, o.option_value) FROM pg_options_to_table(c.reloptions) o) AS set
        FROM hotmesh_dba._app_tables(app_schema) a, hotmesh_dba._leaves(a) l, pg_class c
        WHERE c.oid = l.leaf AND l.is_plain
    ), resolved AS (
        SELECT o.root, o.leaf, o.live, coalesce((o.set ->> 'autovacuum_enabled')::boolean, true) AS enabled,
               coalesce(o.set ->> 'autovacuum_vacuum_threshold',
                        current_setting('autovacuum_vacuum_threshold'))::float8 AS base,
               coalesce(o.set ->> 'autovacuum_vacuum_scale_factor',
                        current_setting('autovacuum_vacuum_scale_factor'))::float8 * o.live AS scaled,
               -- Since PostgreSQL 18; -1: no limit.
               nullif(coalesce(o.set ->> 'autovacuum_vacuum_max_threshold',
                               current_setting('autovacuum_vacuum_max_threshold', true))::float8, -1) AS most
        FROM option o
    )
    SELECT r.root, r.leaf, r.live, pg_stat_get_dead_tuples(r.leaf), r.enabled, least(r.base + r.scaled, r.most), r.scaled
    FROM resolved r
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_table_autovacuum(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'problem', format('autovacuum is switched off for %s.', string_agg(v.leaf::text, ', ' ORDER BY v.leaf::text)),
           string_agg(format('ALTER TABLE %s RESET (autovacuum_enabled);', v.leaf), E'\n' ORDER BY v.leaf::text)
    FROM hotmesh_dba._vacuum_state(app_schema) v
    WHERE NOT v.enabled
    GROUP BY v.root
$$;

-- More than twice as many as autovacuum lets come together: it is too slow, or is kept from it.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_dead_rows(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'warning',
           format('%s dead rows lie in %s, and autovacuum is far behind.', sum(v.dead), v.root),
           format('VACUUM (ANALYZE) %s;', string_agg(v.leaf::text, ', ' ORDER BY v.leaf::text))
    FROM hotmesh_dba._vacuum_state(app_schema) v
    WHERE v.dead > greatest(2 * v.threshold, 10000)
    GROUP BY v.root
$$;

-- A fifth of a big table is a lot to let lie there, and to clean away at once.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_vacuum_threshold(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'warning',
           format('autovacuum comes to %s only when %s rows are dead.', string_agg(v.leaf::text, ', ' ORDER BY v.leaf::text),
                  round(max(v.threshold))),
           string_agg(format('ALTER TABLE %s SET (autovacuum_vacuum_scale_factor = %s);', v.leaf,
                             trim_scale(greatest(round((50000 / v.live)::numeric, 6), 0.000001))),
                      E'\n' ORDER BY v.leaf::text)
    FROM hotmesh_dba._vacuum_state(app_schema) v
    WHERE v.threshold > 100000 AND v.scaled > 50000
    GROUP BY v.root
$$;
