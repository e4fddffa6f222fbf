//! Redis Streams: the only place that speaks Redis.
