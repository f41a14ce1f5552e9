//! Tests of the shared half of a connection.
