-- 0.10.0: four arguments, and a strip that marks nothing.
CREATE FUNCTION {schema}.prune(
  retention interval DEFAULT '7 days',
  prune_jobs boolean DEFAULT true,
  prune_streams boolean DEFAULT true,
  strip_attributes boolean DEFAULT false
) RETURNS TABLE (deleted_jobs bigint, deleted_streams bigint, stripped_attributes bigint)
LANGUAGE plpgsql AS $fn$
BEGIN
  deleted_jobs := 0; deleted_streams := 0; stripped_attributes := 0;
  IF prune_jobs THEN
    DELETE FROM {schema}.jobs AS j WHERE j.expired_at < now() - retention;
    GET DIAGNOSTICS deleted_jobs = ROW_COUNT;
  END IF;
  IF prune_streams THEN
    DELETE FROM {schema}.streams AS s WHERE s.expired_at < now() - retention;
    GET DIAGNOSTICS deleted_streams = ROW_COUNT;
  END IF;
  IF strip_attributes THEN
    DELETE FROM {schema}.jobs_attributes AS a USING {schema}.jobs AS j
     WHERE j.id = a.job_id AND j.status = 0 AND j.is_live
       AND a.type NOT IN ('jdata', 'udata', 'jmark');
    GET DIAGNOSTICS stripped_attributes = ROW_COUNT;
  END IF;
  RETURN NEXT;
END
$fn$;
