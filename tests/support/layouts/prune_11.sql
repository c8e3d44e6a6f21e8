-- 0.13: eleven arguments, a switch and a window for each stream table.
CREATE FUNCTION {schema}.prune(
  retention interval DEFAULT '7 days',
  prune_jobs boolean DEFAULT true,
  prune_streams boolean DEFAULT true,
  strip_attributes boolean DEFAULT false,
  entity_list text[] DEFAULT NULL,
  prune_transient boolean DEFAULT false,
  keep_hmark boolean DEFAULT false,
  prune_engine_streams boolean DEFAULT NULL,
  prune_worker_streams boolean DEFAULT NULL,
  engine_streams_retention interval DEFAULT NULL,
  worker_streams_retention interval DEFAULT NULL
) RETURNS TABLE (
  deleted_jobs bigint, deleted_streams bigint, stripped_attributes bigint,
  deleted_transient bigint, marked_pruned bigint,
  deleted_engine_streams bigint, deleted_worker_streams bigint
)
LANGUAGE plpgsql AS $fn$
BEGIN
  deleted_jobs := 0; deleted_streams := 0; deleted_engine_streams := 0; deleted_worker_streams := 0;
  stripped_attributes := 0; deleted_transient := 0; marked_pruned := 0;
  IF prune_jobs THEN
    DELETE FROM {schema}.jobs AS j
     WHERE j.expired_at < now() - retention
       AND (entity_list IS NULL OR j.entity = ANY (entity_list));
    GET DIAGNOSTICS deleted_jobs = ROW_COUNT;
  END IF;
  IF prune_transient THEN
    DELETE FROM {schema}.jobs AS j WHERE j.entity IS NULL AND j.expired_at < now() - retention;
    GET DIAGNOSTICS deleted_transient = ROW_COUNT;
  END IF;
  IF coalesce(prune_engine_streams, prune_streams) THEN
    DELETE FROM {schema}.engine_streams AS s
     WHERE s.expired_at < now() - coalesce(engine_streams_retention, retention);
    GET DIAGNOSTICS deleted_engine_streams = ROW_COUNT;
  END IF;
  IF coalesce(prune_worker_streams, prune_streams) THEN
    DELETE FROM {schema}.worker_streams AS s
     WHERE s.expired_at < now() - coalesce(worker_streams_retention, retention);
    GET DIAGNOSTICS deleted_worker_streams = ROW_COUNT;
  END IF;
  deleted_streams := deleted_engine_streams + deleted_worker_streams;
  IF strip_attributes THEN
    DELETE FROM {schema}.jobs_attributes AS a USING {schema}.jobs AS j
     WHERE j.id = a.job_id AND j.status = 0 AND j.is_live AND j.pruned_at IS NULL
       AND (entity_list IS NULL OR j.entity = ANY (entity_list))
       AND a.type NOT IN ('jdata', 'udata', 'jmark')
       AND NOT (keep_hmark AND a.type = 'hmark');
    GET DIAGNOSTICS stripped_attributes = ROW_COUNT;
    UPDATE {schema}.jobs AS j SET pruned_at = now()
     WHERE j.status = 0 AND j.is_live AND j.pruned_at IS NULL
       AND (entity_list IS NULL OR j.entity = ANY (entity_list));
    GET DIAGNOSTICS marked_pruned = ROW_COUNT;
  END IF;
  RETURN NEXT;
END
$fn$;
