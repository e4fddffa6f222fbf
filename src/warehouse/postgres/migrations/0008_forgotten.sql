-- Whom the warehouse has forgotten: each load looks here, so that no late event brings a person back. A subject is an
-- HMAC, so that the table names nobody. The first row is made of the key alone.

CREATE TABLE {schema}.forgotten (
    n            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop         text COLLATE "C" NOT NULL,
    subject      text COLLATE "C" NOT NULL UNIQUE,
    forgotten_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE {schema}.forgotten IS
    'Whom the warehouse has forgotten (orderstream forget): a customer, an order or a shop each, as an HMAC. Loads leave out what is personal about them.';
