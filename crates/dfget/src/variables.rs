//! The environment of this process.

/// All variables whose names and values are text, for whatever collects them.
pub(crate) fn variables<C: FromIterator<(String, String)>>() -> C {
    let as_text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(as_text).collect()
}
