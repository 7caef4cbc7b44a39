//! VOLTA-compatible JSON model configuration.
