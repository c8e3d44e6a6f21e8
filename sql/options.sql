-- A window becomes its cutoff. It is refused where it could reach into the future: an interval has three
-- fields, and '1 month -30 days' is positive to no comparison but points past now in March; so months count as
-- the fewest days that so many in a row can be (or, taken away, as the most): a year as 365 (366), and the rest
-- as in the tables below.
CREATE OR REPLACE FUNCTION hotmesh_dba._cutoff(option_name text, retention interval) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_fewest CONSTANT int[] := '{28,59,89,120,150,181,212,242,273,303,334}';
    v_most   CONSTANT int[] := '{31,62,92,123,153,184,215,245,276,306,337}';
    v_months int;
    v_days   int;
    v_rest   interval;
BEGIN
    IF retention IS NULL THEN
        RAISE EXCEPTION '% must not be NULL', option_name
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Without a window nothing would be old enough to delete, and nothing would say so.',
                  HINT = format('Give an interval: %s => ''7 days''.', option_name);
    END IF;
    IF NOT isfinite(retention) THEN
        RAISE interval_field_overflow;
    END IF;
    v_months := extract(year FROM retention) * 12 + extract(month FROM retention);
    v_rest := retention - make_interval(months => v_months);
    -- Division is towards 0, so year and rest have one sign; no rest is no entry.
    v_days := CASE WHEN v_months < 0 THEN v_months / 12 * 366 - coalesce(v_most[-(v_months % 12)], 0)
                   ELSE v_months / 12 * 365 + coalesce(v_fewest[v_months % 12], 0) END;
    IF make_interval(days => v_days) + v_rest < interval '0' THEN
        RAISE EXCEPTION '% must not be negative: %', option_name, retention
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Its cutoff could lie in the future, and rows that have not expired yet would be deleted.',
                  HINT = format('Give an interval of one sign: %s => ''30 days''.', option_name);
    END IF;
    -- In UTC, so that '30 days' is no hour longer beside a change of the clocks.
    RETURN (now() AT TIME ZONE 'UTC' - retention) AT TIME ZONE 'UTC';
EXCEPTION
    WHEN datetime_field_overflow OR numeric_value_out_of_range OR interval_field_overflow THEN
        RAISE EXCEPTION '% is out of range: %', option_name, retention
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Its cutoff is no time that PostgreSQL can represent.',
                  HINT = format('Give a shorter interval: %s => ''10 years''.', option_name);
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_flag(option_name text, flag boolean) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF flag IS NULL THEN
        RAISE EXCEPTION '% must not be NULL', option_name
            USING ERRCODE = 'null_value_not_allowed',
                  DETAIL = 'It says whether a kind of rows is removed, so it is true or false.',
                  HINT = format('Give it a value: %s => false.', option_name);
    END IF;
    RETURN flag;
END
$$;

-- A setting of the session that is on or off, and off where it is not set.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_set(setting text) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN coalesce(nullif(current_setting(setting, true), '')::boolean, false);
EXCEPTION WHEN invalid_text_representation THEN
    RAISE EXCEPTION '% must be on or off: %', setting, quote_literal(current_setting(setting))
        USING ERRCODE = 'invalid_parameter_value',
              DETAIL = 'It is a setting of this session, or of its role or database.',
              HINT = format('SET %s = off;', setting);
END
$$;

-- The arguments of one call, resolved and validated once. Cutoffs are fixed here and shared by every step.
CREATE OR REPLACE FUNCTION hotmesh_dba._resolve(
    app_id text, retention interval, prune_jobs boolean, prune_streams boolean, strip_attributes boolean,
    entity_list text[], prune_transient boolean, keep_hmark boolean, prune_engine_streams boolean,
    prune_worker_streams boolean, engine_streams_retention interval, worker_streams_retention interval,
    prune_signals boolean)
RETURNS hotmesh_dba._options
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_options hotmesh_dba._options;
BEGIN
    v_options.jobs := hotmesh_dba._check_flag('prune_jobs', prune_jobs);
    v_options.transient := hotmesh_dba._check_flag('prune_transient', prune_transient);
    PERFORM hotmesh_dba._check_flag('prune_streams', prune_streams);
    v_options.engine_streams := coalesce(prune_engine_streams, prune_streams);
    v_options.worker_streams := coalesce(prune_worker_streams, prune_streams);
    v_options.strip := hotmesh_dba._check_flag('strip_attributes', strip_attributes);
    v_options.signals := hotmesh_dba._check_flag('prune_signals', prune_signals);
    v_options.keep_hmark := hotmesh_dba._check_flag('keep_hmark', keep_hmark);
    v_options.entity_list := entity_list;
    v_options.jobs_before := hotmesh_dba._cutoff('retention', retention);
    v_options.engine_before := hotmesh_dba._cutoff('engine_streams_retention', coalesce(engine_streams_retention, retention));
    v_options.worker_before := hotmesh_dba._cutoff('worker_streams_retention', coalesce(worker_streams_retention, retention));
    v_options.signals_until := now();
    v_options.disable_triggers := hotmesh_dba._is_set('hotmesh_dba.disable_triggers');
    v_options.app_schema := hotmesh_dba.app_schema(app_id);
    PERFORM hotmesh_dba._check_schema_usage(v_options.app_schema);
    IF v_options.strip AND NOT hotmesh_dba._is_migrated(v_options.app_schema) THEN
        RAISE EXCEPTION 'app "%" is not deployed: jobs has no column pruned_at', v_options.app_schema
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'Stripped jobs are marked in that column.',
                  HINT = format('SELECT * FROM hotmesh_dba.deploy(%L);', v_options.app_schema);
    END IF;
    RETURN v_options;
END
$$;
