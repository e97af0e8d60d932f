-- A PostgreSQL role for the running console that can write and read the audit log, and nothing else to it.
--
--   psql "$OWNER_DATABASE_URL" -v app=keeptrusts_app -f deploy/postgresql/harden.sql
--
-- Run it as the role that owns the tables (the one that migrates), after every `manage.py migrate`; it can be run again.
-- The role :app must exist, with a password and neither SUPERUSER nor CREATEROLE, and the owner must be a member of it:
--   CREATE ROLE keeptrusts_app LOGIN PASSWORD '…';  GRANT keeptrusts_app TO keeptrusts_owner;
-- Then every process gets DATABASE_URL with the role :app; only `migrate` keeps the owner's.
\set ON_ERROR_STOP on
BEGIN;

GRANT USAGE ON SCHEMA public TO :"app";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :"app";
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO :"app";

-- Evidence: written and read. Not owning them, the role can neither change them nor take their triggers away.
REVOKE UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER
    ON audit_auditentry, audit_auditleaf, audit_checkpoint FROM :"app";
-- What has been migrated is not the console's to say.
REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM :"app";

-- The days of usage events are partitions: the console makes and drops them, which takes owning their parent.
GRANT CREATE ON SCHEMA public TO :"app";
SELECT format('ALTER TABLE %I.%I OWNER TO %I', n.nspname, c.relname, :'app')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public'
  AND (c.relname = 'usage_usageevent'
       OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'usage_usageevent'::regclass))
\gexec

COMMIT;
