//! The `xenc` command line.

fn main() {}
