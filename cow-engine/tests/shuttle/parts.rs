//! Models of the parts.
