-- jobs before 0.10 and in 0.10: attributes are told apart by one column, `field`.
CREATE TABLE {schema}.jobs (
  id         uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
  key        text NOT NULL,
  entity     text,
  status     integer NOT NULL,
  created_at timestamptz DEFAULT now(),
  updated_at timestamptz DEFAULT now(),
  expired_at timestamptz,
  is_live    boolean DEFAULT true
) PARTITION BY HASH (id);

CREATE TABLE {schema}.jobs_attributes (
  job_id uuid NOT NULL REFERENCES {schema}.jobs (id) ON DELETE CASCADE,
  field  text NOT NULL,
  value  text,
  type   {schema}.type_enum NOT NULL,
  PRIMARY KEY (job_id, field)
) PARTITION BY HASH (job_id);

DO $do$
BEGIN
  FOR n IN 0..7 LOOP
    EXECUTE format(
      'CREATE TABLE %1$I.jobs_part_%2$s PARTITION OF %1$I.jobs
         FOR VALUES WITH (MODULUS 8, REMAINDER %2$s)', {schema_text}, n);
    EXECUTE format(
      'CREATE TABLE %1$I.jobs_attributes_part_%2$s PARTITION OF %1$I.jobs_attributes
         FOR VALUES WITH (MODULUS 8, REMAINDER %2$s)', {schema_text}, n);
  END LOOP;
END
$do$;

CREATE INDEX idx_jobs_entity_status ON {schema}.jobs (entity, status);
CREATE INDEX idx_jobs_expired_at ON {schema}.jobs (expired_at);
CREATE INDEX idx_jobs_key_expired_at ON {schema}.jobs (key, expired_at) INCLUDE (is_live);
CREATE INDEX idx_jobs_attributes_field ON {schema}.jobs_attributes (field);
CREATE INDEX idx_jobs_attributes_type_field ON {schema}.jobs_attributes (type, field);

CREATE FUNCTION {schema}.update_is_live() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
  NEW.is_live := NEW.expired_at IS NULL OR NEW.expired_at > now();
  RETURN NEW;
END
$fn$;

-- The older form asks expired_at, and not is_live, whether a job is live.
CREATE FUNCTION {schema}.enforce_live_job_uniqueness() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
  IF NEW.expired_at IS NULL OR NEW.expired_at > now() THEN
    PERFORM pg_advisory_xact_lock(hashtextextended(NEW.key, 0));
    IF EXISTS (SELECT FROM {schema}.jobs AS j
                WHERE j.key = NEW.key AND j.id <> NEW.id
                  AND (j.expired_at IS NULL OR j.expired_at > now())) THEN
      RAISE EXCEPTION 'a live job has the key % already', NEW.key USING ERRCODE = 'unique_violation';
    END IF;
  END IF;
  RETURN NEW;
END
$fn$;

CREATE TRIGGER trg_update_is_live BEFORE INSERT OR UPDATE ON {schema}.jobs
  FOR EACH ROW EXECUTE FUNCTION {schema}.update_is_live();
CREATE TRIGGER trg_enforce_live_job_uniqueness BEFORE INSERT OR UPDATE ON {schema}.jobs
  FOR EACH ROW EXECUTE FUNCTION {schema}.enforce_live_job_uniqueness();
