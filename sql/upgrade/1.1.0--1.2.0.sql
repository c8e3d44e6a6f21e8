ALTER TABLE hotmesh_dba.run ADD COLUMN policy text;
COMMENT ON COLUMN hotmesh_dba.run.policy IS 'Name of the policy that it followed; NULL where prune_batched was called by itself.';
