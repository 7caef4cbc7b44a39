//! Reads pickle streams without executing anything.
