//! Image sets, descriptions and batches.
