CREATE OR REPLACE VIEW hotmesh_dba.schedules AS
SELECT NULL::bigint AS job_id, NULL::text AS job_name, NULL::name AS app, NULL::text AS policy, NULL::text AS cron_expression,
       NULL::name AS role, NULL::name AS database, NULL::boolean AS active, NULL::timestamptz AS last_started,
       NULL::timestamptz AS last_finished, NULL::text AS last_status, NULL::text AS last_message WHERE false;
GRANT SELECT ON hotmesh_dba.schedules TO PUBLIC;
