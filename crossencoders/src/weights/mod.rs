//! Loading and saving weights by name.
