CREATE TABLE forgotten (
    -- Whom the warehouse has forgotten (orderstream forget): a customer, an order or a shop each, as an HMAC. Loads
    -- leave out what is personal about them. The first row is made of the key alone.
    n            INTEGER PRIMARY KEY,
    shop         TEXT NOT NULL,
    subject      TEXT NOT NULL UNIQUE,
    forgotten_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000Z')
);
