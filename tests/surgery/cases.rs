//! Cases with names.
