-- The first statement: it fails where a schema of this name stands already, so that nobody else's
-- object can wait in it for a privileged caller (and, as a member, the schema goes with the extension).
CREATE SCHEMA hotmesh_dba;
COMMENT ON SCHEMA hotmesh_dba IS
'Data retention for HotMesh apps: deploy(), prune(), preview() and view app. Names that begin with _ are private.';

-- Every routine acts with its caller's own rights, so the rights on the app's tables decide.
GRANT USAGE ON SCHEMA hotmesh_dba TO PUBLIC;
