-- Said, not left to default privileges, which the installing role may have changed: every routine acts with
-- its caller's own rights, so everybody may call it. Those that an update found there keep what they had.
DO $rights$
DECLARE
    v_routine pg_catalog.regprocedure;
BEGIN
    FOR v_routine IN
        SELECT p.oid::pg_catalog.regprocedure
        FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'hotmesh_dba'::pg_catalog.regnamespace
          AND p.oid::text <> ALL (pg_catalog.string_to_array(
                  coalesce(pg_catalog.current_setting('hotmesh_dba.routines_before', true), ''), ','))
    LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO PUBLIC', v_routine);
    END LOOP;
END
$rights$;
