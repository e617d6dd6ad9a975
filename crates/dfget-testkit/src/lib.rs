//! Scripted origins and clients for the tests.
