//! The gated-sublayer encoder and its heads.
