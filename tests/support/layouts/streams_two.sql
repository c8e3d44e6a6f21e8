-- The engine's messages and the workers' messages, each in a table of its own.
CREATE TABLE {schema}.engine_streams (
  id                       bigserial,
  stream_name              text NOT NULL,
  message                  text NOT NULL,
  created_at               timestamptz DEFAULT now(),
  reserved_at              timestamptz,
  reserved_by              text,
  expired_at               timestamptz,
  dead_lettered_at         timestamptz,
  max_retry_attempts       integer DEFAULT 3,
  backoff_coefficient      numeric DEFAULT 10,
  maximum_interval_seconds integer DEFAULT 120,
  visible_at               timestamptz DEFAULT now(),
  retry_attempt            integer DEFAULT 0,
  priority                 integer DEFAULT 5,
  jid                      text,
  PRIMARY KEY (stream_name, id)
) PARTITION BY HASH (stream_name);

CREATE TABLE {schema}.worker_streams (
  id                       bigserial,
  stream_name              text NOT NULL,
  message                  text NOT NULL,
  created_at               timestamptz DEFAULT now(),
  reserved_at              timestamptz,
  reserved_by              text,
  expired_at               timestamptz,
  dead_lettered_at         timestamptz,
  max_retry_attempts       integer DEFAULT 3,
  backoff_coefficient      numeric DEFAULT 10,
  maximum_interval_seconds integer DEFAULT 120,
  visible_at               timestamptz DEFAULT now(),
  retry_attempt            integer DEFAULT 0,
  priority                 integer DEFAULT 5,
  jid                      text,
  workflow_name            text,
  aid                      text,
  dad                      text,
  msg_type                 text,
  topic                    text,
  PRIMARY KEY (stream_name, id)
) PARTITION BY HASH (stream_name);

DO $do$
BEGIN
  FOR n IN 0..7 LOOP
    EXECUTE format(
      'CREATE TABLE %1$I.engine_streams_part_%2$s PARTITION OF %1$I.engine_streams
         FOR VALUES WITH (MODULUS 8, REMAINDER %2$s)', {schema_text}, n);
    EXECUTE format(
      'CREATE TABLE %1$I.worker_streams_part_%2$s PARTITION OF %1$I.worker_streams
         FOR VALUES WITH (MODULUS 8, REMAINDER %2$s)', {schema_text}, n);
  END LOOP;
END
$do$;

CREATE INDEX idx_engine_streams_expired ON {schema}.engine_streams (expired_at, stream_name)
  WHERE expired_at IS NOT NULL;
CREATE INDEX idx_engine_streams_dequeue
  ON {schema}.engine_streams (stream_name, reserved_at, visible_at, id) WHERE expired_at IS NULL;
CREATE INDEX idx_worker_streams_expired ON {schema}.worker_streams (expired_at, stream_name)
  WHERE expired_at IS NOT NULL;
CREATE INDEX idx_worker_streams_dequeue
  ON {schema}.worker_streams (stream_name, reserved_at, visible_at, id) WHERE expired_at IS NULL;

CREATE FUNCTION {schema}.notify_new_messages() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
  PERFORM pg_notify(left(TG_TABLE_NAME, 3) || '_' || md5(added.stream_name), added.stream_name)
     FROM (SELECT DISTINCT a.stream_name FROM added_rows AS a) AS added;
  RETURN NULL;
END
$fn$;

CREATE TRIGGER trg_notify_engine_streams AFTER INSERT ON {schema}.engine_streams
  REFERENCING NEW TABLE AS added_rows
  FOR EACH STATEMENT EXECUTE FUNCTION {schema}.notify_new_messages();
CREATE TRIGGER trg_notify_worker_streams AFTER INSERT ON {schema}.worker_streams
  REFERENCING NEW TABLE AS added_rows
  FOR EACH STATEMENT EXECUTE FUNCTION {schema}.notify_new_messages();
