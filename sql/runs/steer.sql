-- How many rows a batch takes: a number that was given (fewer after a setback); else what took four fifths of batch_time
-- the last time. Never more than the lock table holds, nor than max_rows leaves; nor, unless it was asked for, so many jobs
-- that the server keeps megabytes of their ids (the memory of a run follows its largest batch).
CREATE OR REPLACE FUNCTION hotmesh_dba._batch_rows(run hotmesh_dba._run, lane hotmesh_dba._lane) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest(1, least(CASE WHEN lane.setbacks > 0 THEN least((run).batch_size, lane.size)
                                  ELSE coalesce((run).batch_size, lane.size) END, hotmesh_dba._batch_bound(lane, (run).workers),
                             (run).max_rows - (run).taken,
                             CASE WHEN (run).batch_size IS NULL AND hotmesh_dba._is_of_jobs(lane.step) THEN 5000 END))
$$;

-- It starts small: nobody knows yet how many attributes a job has.
CREATE OR REPLACE FUNCTION hotmesh_dba._first_size(step hotmesh_dba._step) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN hotmesh_dba._is_of_jobs(step) THEN 50 ELSE 5000 END::bigint $$;

-- A batch that found less than it might have taken says nothing about a bigger one.
CREATE OR REPLACE FUNCTION hotmesh_dba._next_size(
    tried bigint, taken bigint, elapsed interval, batch_time interval) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest(1, CASE WHEN f.factor < 1 OR taken >= tried / 2 THEN tried * least(4, greatest(0.1, f.factor)) ELSE tried END)::bigint
    FROM (SELECT 0.8 * extract(epoch FROM batch_time) / greatest(0.0005, extract(epoch FROM elapsed)) AS factor) f
$$;
