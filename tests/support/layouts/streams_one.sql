-- One table for the messages of the engine and of the workers, told apart by group_name.
CREATE TABLE {schema}.streams (
  id          bigserial,
  stream_name text NOT NULL,
  group_name  text NOT NULL DEFAULT 'ENGINE',
  message     text NOT NULL,
  created_at  timestamptz DEFAULT now(),
  reserved_at timestamptz,
  reserved_by text,
  expired_at  timestamptz,
  PRIMARY KEY (stream_name, id)
) PARTITION BY HASH (stream_name);

DO $do$
BEGIN
  FOR n IN 0..7 LOOP
    EXECUTE format(
      'CREATE TABLE %1$I.streams_part_%2$s PARTITION OF %1$I.streams
         FOR VALUES WITH (MODULUS 8, REMAINDER %2$s)', {schema_text}, n);
  END LOOP;
END
$do$;

CREATE INDEX idx_stream_name_expired_at ON {schema}.streams (stream_name) WHERE expired_at IS NULL;
CREATE INDEX idx_streams_active_messages
  ON {schema}.streams (group_name, stream_name, reserved_at, id)
  WHERE reserved_at IS NULL AND expired_at IS NULL;
CREATE INDEX idx_streams_expired_at ON {schema}.streams (expired_at);

CREATE FUNCTION {schema}.notify_new_stream_messages() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
  PERFORM pg_notify('str_' || md5(added.stream_name), added.group_name)
     FROM (SELECT DISTINCT a.stream_name, a.group_name FROM added_rows AS a) AS added;
  RETURN NULL;
END
$fn$;

CREATE TRIGGER trg_notify_new_stream_messages AFTER INSERT ON {schema}.streams
  REFERENCING NEW TABLE AS added_rows
  FOR EACH STATEMENT EXECUTE FUNCTION {schema}.notify_new_stream_messages();
