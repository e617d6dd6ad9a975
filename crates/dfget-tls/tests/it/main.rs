//! The crate as the proxy uses it, against CAs and certificates that the `openssl` command makes
//! (it must be installed: `apt-get install openssl`).

mod authority;
mod handshake;
mod leaves;
mod openssl;
mod page;
mod trust;
