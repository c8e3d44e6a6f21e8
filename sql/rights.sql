-- Said, not left to default privileges, which the installing role may have changed: every routine acts with
-- its caller's own rights, so everybody may call it.
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA hotmesh_dba TO PUBLIC;
