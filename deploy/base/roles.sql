-- The image runs this once, as the superuser, when it creates the data folder. The roles are those of local runs.
\set ON_ERROR_STOP 1
\getenv owner_password PG_OWNER_PASSWORD
\getenv service_password PG_SERVICE_PASSWORD
CREATE ROLE orders_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE orders_service LOGIN PASSWORD :'service_password';
CREATE DATABASE orders OWNER orders_owner;
REVOKE ALL ON DATABASE orders, postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE orders TO orders_service;
