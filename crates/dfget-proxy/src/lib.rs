//! Listener, CONNECT, hijack, rules, forwarding, access check.
