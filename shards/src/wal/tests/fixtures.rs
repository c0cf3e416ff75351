//! Fixtures: the bytes that the first version wrote stay readable, and its corrupt twins end as recorded.
