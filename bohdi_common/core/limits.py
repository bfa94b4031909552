"""How large a record or a price may be: one number each, for the registry, every log, every client and the broker of
the tests."""

RECORD_BYTES_MAX = 4 * 1024 * 1024  # of a value
OVERHEAD_BYTES_MAX = 64 * 1024  # of key, headers and framing beside it
PRICE_MAX = 1e9  # of a million tokens, in any currency: what is spent stays a number
