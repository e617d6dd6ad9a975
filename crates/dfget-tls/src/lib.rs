//! Certificate authority, leaves and trust roots.
