-- jobs since the release that brought context, origin and parent. pruned_at is added apart from it.
CREATE TABLE {schema}.jobs (
  id         uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
  key        text NOT NULL,
  entity     text,
  origin_id  text,
  parent_id  text,
  status     integer NOT NULL,
  context    jsonb DEFAULT '{{}}',
  created_at timestamptz DEFAULT now(),
  updated_at timestamptz DEFAULT now(),
  expired_at timestamptz,
  is_live    boolean DEFAULT true
) PARTITION BY HASH (id);

CREATE TABLE {schema}.jobs_attributes (
  job_id     uuid NOT NULL REFERENCES {schema}.jobs (id) ON DELETE CASCADE,
  symbol     text NOT NULL,
  dimension  text NOT NULL DEFAULT '',
  value      text,
  type       {schema}.type_enum NOT NULL,
  created_at timestamptz DEFAULT now(),
  updated_at timestamptz DEFAULT now(),
  PRIMARY KEY (job_id, symbol, dimension)
) PARTITION BY HASH (job_id);

DO $do$
BEGIN
  FOR n IN 0..7 LOOP
    EXECUTE format(
      'CREATE TABLE %1$I.jobs_part_%2$s PARTITION OF %1$I.jobs
         FOR VALUES WITH (MODULUS 8, REMAINDER %2$s) WITH (fillfactor = 70)', {schema_text}, n);
    EXECUTE format(
      'CREATE TABLE %1$I.jobs_attributes_part_%2$s PARTITION OF %1$I.jobs_attributes
         FOR VALUES WITH (MODULUS 8, REMAINDER %2$s) WITH (fillfactor = 70)', {schema_text}, n);
  END LOOP;
END
$do$;

CREATE INDEX idx_jobs_expired_at ON {schema}.jobs (expired_at);
CREATE INDEX idx_jobs_entity_status ON {schema}.jobs (entity) INCLUDE (status);
CREATE INDEX idx_jobs_context ON {schema}.jobs USING gin (context);
CREATE INDEX idx_jobs_live_key ON {schema}.jobs (key) WHERE is_live;
CREATE INDEX idx_jobs_key_expired_at ON {schema}.jobs (key, expired_at) INCLUDE (is_live);
CREATE INDEX idx_jobs_entity_created_at ON {schema}.jobs (entity, created_at DESC)
  WHERE entity IS NOT NULL;
CREATE INDEX idx_jobs_attributes_type_symbol ON {schema}.jobs_attributes (type, symbol);
CREATE INDEX idx_jobs_attributes_symbol ON {schema}.jobs_attributes (symbol);

CREATE FUNCTION {schema}.update_is_live() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
  NEW.is_live := NEW.expired_at IS NULL OR NEW.expired_at > now();
  RETURN NEW;
END
$fn$;

CREATE FUNCTION {schema}.enforce_live_job_uniqueness() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
  IF NEW.is_live THEN
    PERFORM pg_advisory_xact_lock(hashtextextended(NEW.key, 0));
    IF EXISTS (SELECT FROM {schema}.jobs AS j
                WHERE j.key = NEW.key AND j.is_live AND j.id <> NEW.id) THEN
      RAISE EXCEPTION 'a live job has the key % already', NEW.key USING ERRCODE = 'unique_violation';
    END IF;
  END IF;
  RETURN NEW;
END
$fn$;

CREATE FUNCTION {schema}.update_updated_at() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
  NEW.updated_at := now();
  RETURN NEW;
END
$fn$;

CREATE TRIGGER trg_update_is_live BEFORE INSERT OR UPDATE ON {schema}.jobs
  FOR EACH ROW EXECUTE FUNCTION {schema}.update_is_live();
CREATE TRIGGER trg_enforce_live_job_uniqueness BEFORE INSERT OR UPDATE ON {schema}.jobs
  FOR EACH ROW EXECUTE FUNCTION {schema}.enforce_live_job_uniqueness();
CREATE TRIGGER trg_update_jobs_updated_at BEFORE UPDATE ON {schema}.jobs
  FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
  EXECUTE FUNCTION {schema}.update_updated_at();
CREATE TRIGGER trg_update_attributes_updated_at BEFORE UPDATE ON {schema}.jobs_attributes
  FOR EACH ROW EXECUTE FUNCTION {schema}.update_updated_at();
