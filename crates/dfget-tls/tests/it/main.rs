//! The crate as the proxy uses it, against CAs and certificates that the `openssl` command makes
//! (it must be installed: `apt-get install openssl`), and judged by GnuTLS (`gnutls-bin`), too.

mod authority;
mod create;
mod handshake;
mod leaves;
mod openssl;
mod page;
mod pair;
mod trust;
