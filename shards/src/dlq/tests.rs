//! Tests of the dead letter queue.
